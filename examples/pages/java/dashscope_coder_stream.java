// The same, streamed: each event holds what is new, and the last one comes with the usage.

import com.alibaba.dashscope.aigc.generation.Generation;
import com.alibaba.dashscope.aigc.generation.GenerationParam;
import com.alibaba.dashscope.aigc.generation.GenerationResult;
import com.alibaba.dashscope.common.Message;
import com.alibaba.dashscope.common.Role;
import io.reactivex.Flowable;
import io.reactivex.schedulers.Schedulers;
import java.util.Arrays;
import java.util.concurrent.CountDownLatch;
import com.alibaba.dashscope.protocol.Protocol;

public class Main {
    public static void main(String[] args) {
        String apiKey = System.getenv("DASHSCOPE_API_KEY");
        Generation gen = new Generation(Protocol.HTTP.getValue(), System.getenv().getOrDefault("DASHSCOPE_HTTP_BASE_URL", "http://127.0.0.1:8000/api/v1"));
        CountDownLatch latch = new CountDownLatch(1);
        GenerationParam param = GenerationParam.builder()
            .apiKey(apiKey)
            .model("qwen3-coder-plus")
            .messages(Arrays.asList(
                Message.builder()
                    .role(Role.USER.getValue())
                    .content("Write a Python function named find_prime_numbers that accepts an integer n as a parameter and returns a list of all prime numbers less than n. Do not output any content other than the code and do not use Markdown code blocks.")
                    .build()
            ))
            .resultFormat(GenerationParam.ResultFormat.MESSAGE)
            .incrementalOutput(true)
            .build();
        try {
            Flowable<GenerationResult> result = gen.streamCall(param);
            StringBuilder fullContent = new StringBuilder();
            System.out.println("====================Response====================");
            result
                .subscribeOn(Schedulers.io())
                .observeOn(Schedulers.computation())
                .subscribe(
                message -> {
                    String content = message.getOutput().getChoices().get(0).getMessage().getContent();
                    String finishReason = message.getOutput().getChoices().get(0).getFinishReason();
                    System.out.print(content);
                    fullContent.append(content);
                    if (finishReason != null && !"null".equals(finishReason)) {
                        System.out.println("\n====================Token Usage====================");
                        System.out.println("Input Tokens: " + message.getUsage().getInputTokens());
                        System.out.println("Output Tokens: " + message.getUsage().getOutputTokens());
                        System.out.println("Total Tokens: " + message.getUsage().getTotalTokens());
                    }
                    System.out.flush();
                },
                error -> {
                    System.err.println("\nRequest failed: " + error.getMessage());
                    latch.countDown();
                },
                () -> {
                    System.out.println();
                    latch.countDown();
                }
            );
            latch.await();
        } catch (Exception e) {
            System.err.println("Request exception: " + e.getMessage());
            e.printStackTrace();
        }
    }
}
