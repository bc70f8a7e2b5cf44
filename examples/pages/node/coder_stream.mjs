// Qwen-Coder, streamed: print the function as it is written, then what it took.

import OpenAI from "openai";

const client = new OpenAI(
    {
        // The key that `ownstudio key create` prints; the first start writes one to the data directory.
        apiKey: process.env.DASHSCOPE_API_KEY,
        baseURL: process.env.DASHSCOPE_BASE_URL ?? "http://127.0.0.1:8000/compatible-mode/v1"
    }
);

async function main() {
    const stream = await client.chat.completions.create({
        model: "qwen3-coder-plus",
        messages: [
            { role: "system", content: "You are a helpful assistant." },
            { role: "user", content: "Write a Python function named find_prime_numbers that accepts an integer n as a parameter and returns a list of all prime numbers less than n. Do not output any content other than the code and do not use Markdown code blocks." },
        ],
        stream: true,
        // One more chunk at the end holds the token counts.
        stream_options: { include_usage: true },
    });

    const contentParts = [];
    console.log("=".repeat(20) + "Response" + "=".repeat(20));

    for await (const chunk of stream) {
        // The chunk with the usage has no choices.
        if (chunk.choices && chunk.choices.length > 0) {
            const content = chunk.choices[0]?.delta?.content || "";
            process.stdout.write(content);
            contentParts.push(content);
        } else if (chunk.usage) {
            console.log("\n"+"=".repeat(20) + "Token Usage" + "=".repeat(20));
            console.log(`Input Tokens: ${chunk.usage.prompt_tokens}`);
            console.log(`Output Tokens: ${chunk.usage.completion_tokens}`);
            console.log(`Total Tokens: ${chunk.usage.total_tokens}`);
        }
    }

    const fullResponse = contentParts.join("");
    // The whole answer in one piece:
    // console.log(`\n--- Full Response ---\n${fullResponse}`);
}

main();
