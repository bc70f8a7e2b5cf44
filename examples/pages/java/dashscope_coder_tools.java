// Tool calling over the native DashScope API: Qwen-Coder writes a script and has it saved by our function.

import com.alibaba.dashscope.aigc.generation.Generation;
import com.alibaba.dashscope.aigc.generation.GenerationParam;
import com.alibaba.dashscope.aigc.generation.GenerationResult;
import com.alibaba.dashscope.common.Message;
import com.alibaba.dashscope.common.Role;
import com.alibaba.dashscope.protocol.Protocol;
import com.alibaba.dashscope.exception.NoApiKeyException;
import com.alibaba.dashscope.exception.InputRequiredException;
import com.alibaba.dashscope.tools.FunctionDefinition;
import com.alibaba.dashscope.tools.ToolCallBase;
import com.alibaba.dashscope.tools.ToolCallFunction;
import com.alibaba.dashscope.tools.ToolFunction;
import com.alibaba.dashscope.utils.JsonUtils;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

public class Main {
    public static String writeFile(String arguments) {
        try {
            ObjectMapper objectMapper = new ObjectMapper();
            JsonNode argsNode = objectMapper.readTree(arguments);
            String path = argsNode.get("path").asText();
            String content = argsNode.get("content").asText();
            // Nothing is written, lest a model choose the path.
            return "Success: The file '" + path + "' has been written.";
        } catch (Exception e) {
            return "Error: An exception occurred while writing the file - " + e.getMessage();
        }
    }
    public static void main(String[] args) {
        try {
            String writePropertyParams =
            "{\"type\":\"object\",\"properties\":{\"path\":{\"type\":\"string\",\"description\":\"The relative or absolute path of the target file.\"},\"content\":{\"type\":\"string\",\"description\":\"The string content to write to the file.\"}},\"required\":[\"path\",\"content\"]}";
            FunctionDefinition writeFileFunction = FunctionDefinition.builder()
                .name("write_file")
                .description("Writes content to the specified file. If the file does not exist, it is created.")
                .parameters(JsonUtils.parseString(writePropertyParams).getAsJsonObject())
                .build();
            Generation gen = new Generation(Protocol.HTTP.getValue(), System.getenv().getOrDefault("DASHSCOPE_HTTP_BASE_URL", "http://127.0.0.1:8000/api/v1"));
            String userInput = "Write a Python script for quick sort and name it quick_sort.py.";
            List<Message> messages = new ArrayList<>();
            messages.add(Message.builder().role(Role.USER.getValue()).content(userInput).build());
            GenerationParam param = GenerationParam.builder()
                .model("qwen3-coder-plus")
                .apiKey(System.getenv("DASHSCOPE_API_KEY"))
                .messages(messages)
                .tools(Arrays.asList(ToolFunction.builder().function(writeFileFunction).build()))
                .resultFormat(GenerationParam.ResultFormat.MESSAGE)
                .build();
            GenerationResult result = gen.call(param);
            Message assistantOutput = result.getOutput().getChoices().get(0).getMessage();
            messages.add(assistantOutput);
            if (assistantOutput.getToolCalls() == null || assistantOutput.getToolCalls().isEmpty()) {
                System.out.println("No tool call needed, responding directly: " + assistantOutput.getContent());
            } else {
                while (assistantOutput.getToolCalls() != null && !assistantOutput.getToolCalls().isEmpty()) {
                    for (ToolCallBase toolCall : assistantOutput.getToolCalls()) {
                        ToolCallFunction functionCall = (ToolCallFunction) toolCall;
                        String funcName = functionCall.getFunction().getName();
                        String arguments = functionCall.getFunction().getArguments();
                        System.out.println("Calling tool [" + funcName + "] with arguments: " + arguments);
                        String toolResult = writeFile(arguments);
                        Message toolMessage = Message.builder()
                            .role("tool")
                            .toolCallId(toolCall.getId())
                            .content(toolResult)
                            .build();
                        System.out.println("Tool returned: " + toolMessage.getContent());
                        messages.add(toolMessage);
                    }
                    param.setMessages(messages);
                    result = gen.call(param);
                    assistantOutput = result.getOutput().getChoices().get(0).getMessage();
                    messages.add(assistantOutput);
                }
                System.out.println("Model's final response: " + assistantOutput.getContent());
            }
        } catch (NoApiKeyException | InputRequiredException e) {
            System.err.println("Error: " + e.getMessage());
        } catch (Exception e) {
            e.printStackTrace();
        }
    }
}
