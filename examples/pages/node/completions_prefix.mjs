// Text completion: the code that follows a prefix.

import OpenAI from "openai";

const openai = new OpenAI(
    {
        // The key that `ownstudio key create` prints; the first start writes one to the data directory.
        apiKey: process.env.DASHSCOPE_API_KEY,
        baseURL: process.env.DASHSCOPE_BASE_URL ?? "http://127.0.0.1:8000/compatible-mode/v1"
    }
);

async function main() {
    const completion = await openai.completions.create({
        model: "qwen2.5-coder-32b-instruct",
        prompt: "<|fim_prefix|>Write a Python quick sort function, def quick_sort(arr):<|fim_suffix|>",
    });
    console.log(completion.choices[0].text)
}

main();
