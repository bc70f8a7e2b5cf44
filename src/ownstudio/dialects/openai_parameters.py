"""What becomes of each top-level field of an OpenAI body: served, harmless to ignore, or refused. Rules as data."""

from ownstudio.dialects.parameters import Parameters, Refusal

_SHARED_SUPPORTED = {
    "model": "a name of the catalogue",
    "stream": "false, or true for server-sent events",
    "stream_options": "an object; `include_usage` true ends a stream with the usage",
    "temperature": "[0, 2); 0 is greedy",
    "top_p": "(0, 1]",
    "top_k": "0 or more; null or above 100 is off",
    "repetition_penalty": "[0.01, 100]",
    "presence_penalty": "[-2, 2]",
    "frequency_penalty": "[-2, 2]",
    "stop": "a text, texts, token ids, or lists of token ids; at most 64; never mixed",
}

_SHARED_HARMLESS = {
    "metadata": "labels for the caller's own records",
    "service_tier": "there is one tier",
    "store": "nothing is stored for later use either way",
    "user": "an end user's label, for the caller's own records",
}

CHAT = Parameters(
    supported=_SHARED_SUPPORTED
    | {
        "messages": "1 to 10,000 messages; `system` only first; content is text or text parts; an "
        "assistant's message that is last and `partial` is continued",
        "max_tokens": "1 to the model's longest output; thinking does not count",
        "max_completion_tokens": "as `max_tokens`, but thinking counts",
        "n": "1 to what the catalogue says, at most 4; 1 where there are tools",
        "seed": "0 to 2^64-1",
        "logprobs": "true or false",
        "top_logprobs": "0 to 5, with `logprobs`",
        "tools": "at most 256 functions of at most 256 KiB each, also one named `search`",
        "tool_choice": "`auto`, `none`, `required`, or an object that names a function; while the model "
        "thinks `auto` and `none` only",
        "parallel_tool_calls": "false: at most one call in an answer; true: any number",
        "enable_thinking": "true or false, as far as the catalogue lets the model choose; models "
        "that think in streams only refuse true without `stream`",
        "thinking_budget": "1 to the model's longest thinking, in tokens; without effect where a "
        "model never thinks",
        "preserve_thinking": "true keeps the `reasoning_content` of earlier turns in the prompt",
        "response_format": "type `text`, `json_object` (the messages must hold the word json) or "
        "`json_schema`; the latter two not while the model thinks",
    },
    harmless=_SHARED_HARMLESS
    | {
        "cache_control": "marks what to cache; the answer is the same",
        "clear_thinking": "of other makers' models; `preserve_thinking` decides here",
        "prompt_cache_key": "steers a cache; the answer is the same",
        "prompt_cache_options": "steers a cache; the answer is the same",
        "prompt_cache_retention": "steers a cache; the answer is the same",
        "safety_identifier": "an end user's label, for the caller's own records",
        "search_options": "has no meaning without `enable_search`, which is refused",
        "tool_stream": "chooses how finely arguments are cut in a stream; joined they are the same",
        "vl_enable_image_hw_output": "concerns images, which are refused",
        "vl_high_resolution_images": "concerns images, which are refused",
    },
    refused={
        "asr_options": Refusal("no model here transcribes audio"),
        "audio": Refusal("no model here speaks"),
        "enable_code_interpreter": Refusal("no code interpreter is served", (False,)),
        "enable_search": Refusal("no web search is served", (False,)),
        "function_call": Refusal("'tool_choice' has replaced it", ("none", "auto")),
        "functions": Refusal("'tools' has replaced it", ([],)),
        "logit_bias": Refusal("tokens cannot be biased", ({},)),
        "modalities": Refusal("answers are text", (["text"], [])),
        "moderation": Refusal("nothing moderates"),
        "prediction": Refusal("predicted outputs are not served"),
        "reasoning_effort": Refusal("'enable_thinking' and 'thinking_budget' steer thinking"),
        "translation_options": Refusal("no model here is a translation model"),
        "verbosity": Refusal("the length of answers cannot be steered", ("medium",)),
        "web_search_options": Refusal("no web search is served"),
    },
)

TEXT = Parameters(
    supported=_SHARED_SUPPORTED
    | {
        "prompt": "a text, token ids, or a list that holds one of these; special tokens count as such",
        "max_tokens": "1 to the model's longest output",
        "suffix": "a text: what follows the text to be written",
        "n": "1",
        "seed": "0 to 2^31-1",
        "echo": "true puts the prompt, which must be text, before the answer; not with `logprobs`",
        "logprobs": "0 to 5 rivals of each token",
    },
    harmless=_SHARED_HARMLESS,
    refused={
        "best_of": Refusal("one completion is made for each prompt", (1,)),
        "logit_bias": Refusal("tokens cannot be biased", ({},)),
    },
)
