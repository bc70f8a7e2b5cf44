"""What becomes of each field of a native body: served, harmless to ignore, or refused. Rules as data.

A field that no table knows changes nothing either, and the answer says so in a header. `tools` beside
`parameters` instead of in it is such a field: the real service does not see it there.
"""

from ownstudio.dialects.parameters import Parameters, Refusal

BODY = Parameters(
    supported={
        "model": "a name of the catalogue",
        "input": "an object; see below",
        "parameters": "an object, or nothing; see below",
    },
    harmless={
        "task": "says again what the path says",
        "task_group": "says again what the path says",
        "function": "says again what the path says",
        "stream": "a header says whether to stream",
    },
    refused={"resources": Refusal("no resources are served", ([], {}))},
)

INPUT = Parameters(
    supported={
        "messages": "1 to 10,000 messages; `system` only first; content is text or text parts",
        "prompt": "a text: one more user message",
        "history": 'earlier turns as `{"user": …, "bot": …}`, before a prompt',
    },
    harmless={},
    refused={
        "customized_model_id": Refusal("models are asked for by `model`"),
        "image": Refusal("no model here sees images"),
        "video": Refusal("no model here sees videos"),
        "audio": Refusal("no model here hears audio"),
    },
)

PARAMETERS = Parameters(
    supported={
        "result_format": "`text` or `message`; some models always answer in the `message` form",
        "incremental_output": "of a stream: true for what is new, false for everything so far",
        "max_tokens": "1 to the model's longest output; thinking does not count",
        "max_completion_tokens": "as `max_tokens`, but thinking counts",
        "temperature": "[0, 2); 0 is greedy",
        "top_p": "(0, 1]",
        "top_k": "0 or more; above 100 or null is off",
        "repetition_penalty": "[0.01, 100]",
        "presence_penalty": "[-2, 2]",
        "frequency_penalty": "[-2, 2]",
        "seed": "0 to 2^63-1",
        "stop": "a text, texts, token ids or sequences of token ids",
        "n": "1 to 4 where the catalogue allows it; beside tools 1 to 4, and one is made",
        "tools": "functions that the model may call; needs the `message` form",
        "tool_choice": "auto, none, required or an object that names a function",
        "parallel_tool_calls": "false: one call in an answer; true: as many as the model makes",
        "enable_thinking": "within what the model can; needs the `message` form",
        "thinking_budget": "1 to the model's longest thinking, in tokens",
        "preserve_thinking": "true: the model sees its earlier thoughts",
        "logprobs": "true scores the written tokens; needs the `message` form",
        "top_logprobs": "0 to 5 rivals of each scored token",
        "response_format": "text, json_object, or json_schema with a schema",
    },
    harmless={
        "cache_control": "marks what to cache; the answer is the same",
        "max_input_tokens": "a bound for cutting long prompts, which are never cut here",
        "search_options": "has no meaning without enable_search, which is refused",
        "stream": "some clients leak it; a header says whether to stream",
        "tool_stream": "says how finely a call is streamed; the call is the same",
        "vl_enable_image_hw_output": "concerns images, which are refused",
        "vl_high_resolution_images": "concerns images, which are refused",
    },
    refused={
        "asr_options": Refusal("no model here transcribes audio"),
        "audio": Refusal("no model here speaks"),
        "enable_code_interpreter": Refusal("no code interpreter is served", (False,)),
        "enable_search": Refusal("no web search is served", (False,)),
        "logit_bias": Refusal("tokens cannot be biased", ({},)),
        "modalities": Refusal("answers are text", (["text"], [])),
        "plugins": Refusal("no plug-ins are served", ([], {}, "")),
        "reasoning_effort": Refusal("'enable_thinking' and 'thinking_budget' steer thinking"),
        "translation_options": Refusal("no model here is a translation model"),
        "voice": Refusal("no model here speaks"),
    },
)
