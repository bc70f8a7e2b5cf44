// A tool loop over streams, as a user of OpenAI's Node.js package writes it: the deltas of each answer are put together
// by hand. Reads what to ask as JSON from its input, prints what became of each round as JSON.

import OpenAI from "openai";
import fs from "fs";

const { asked, results, choices } = JSON.parse(fs.readFileSync(0, "utf-8"));
const client = new OpenAI({
    apiKey: process.env.DASHSCOPE_API_KEY,
    baseURL: process.env.DASHSCOPE_BASE_URL,
    maxRetries: 0
});

async function collected(stream) {
    const message = { role: "assistant", content: "" };
    let reason = null;
    for await (const chunk of stream) {
        for (const { delta, finish_reason } of chunk.choices) {
            message.content += delta.content ?? "";
            for (const piece of delta.tool_calls ?? []) {
                message.tool_calls ??= [];
                const call = (message.tool_calls[piece.index] ??= {
                    id: "", type: piece.type, function: { name: "", arguments: "" }
                });
                call.id += piece.id ?? "";
                call.function.name += piece.function.name ?? "";
                call.function.arguments += piece.function.arguments ?? "";
            }
            reason = finish_reason ?? reason;
        }
    }
    return { message, reason };
}

const rounds = [];
for (const tool_choice of choices) {
    const round = await collected(
        await client.chat.completions.create({ ...asked, tool_choice, stream: true })
    );
    rounds.push(round);
    if (round.reason !== "tool_calls") break;
    asked.messages.push(round.message);
    for (const call of round.message.tool_calls) {
        asked.messages.push({ role: "tool", tool_call_id: call.id, content: results[call.function.name] });
    }
}
console.log(JSON.stringify(rounds));
