// Qwen-Coder: ask for a function and print it.

import OpenAI from "openai";

const client = new OpenAI(
    {
        // The key that `ownstudio key create` prints; the first start writes one to the data directory.
        apiKey: process.env.DASHSCOPE_API_KEY,
        baseURL: process.env.DASHSCOPE_BASE_URL ?? "http://127.0.0.1:8000/compatible-mode/v1"
    }
);

async function main() {
    const completion = await client.chat.completions.create({
        model: "qwen3-coder-plus", // Any name that a deployment answers; GET /models lists them.
        messages: [
            { role: "system", content: "You are a helpful assistant." },
            { role: "user", content: "Write a Python function named find_prime_numbers that accepts an integer n as a parameter and returns a list of all prime numbers less than n. Do not output any content other than the code and do not use Markdown code blocks." }
        ],
    });
    console.log(completion.choices[0].message.content);
}

main();
