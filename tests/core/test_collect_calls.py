"""Reasoning and calls are part of the sum."""

from ownstudio.core.events import (
    Choice,
    Done,
    Event,
    Finish,
    FinishReason,
    ReasoningDelta,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolCallStart,
    Usage,
    collect,
)

USAGE = Usage(prompt_tokens=7, completion_tokens=9)


def test_reasoning_text_and_calls_are_kept_apart() -> None:
    events: list[Event] = [
        ReasoningDelta(0, "Let me", 2),
        ReasoningDelta(0, " see.", 3),
        TextDelta(0, "I look", 4),
        ToolCallStart(0, 0, "call_a", "now", 5),
        ToolCallDelta(0, 0, '{"zone": ', 6),
        ToolCallDelta(0, 0, '"UTC"}', 7),
        ToolCallStart(0, 1, "call_b", "weather", 8),
        Finish(0, FinishReason.TOOL_CALLS, 9),
        Done(USAGE),
    ]
    assert collect(events).choices == (
        Choice(
            0,
            "I look",
            FinishReason.TOOL_CALLS,
            reasoning="Let me see.",
            tool_calls=(
                ToolCall("now", '{"zone": "UTC"}', "call_a"),
                ToolCall("weather", "", "call_b"),
            ),
        ),
    )


def test_calls_of_different_choices_are_not_mixed() -> None:
    events: list[Event] = [
        ToolCallStart(1, 0, "b", "now", 1),
        ToolCallStart(0, 0, "a", "now", 1),
        ToolCallDelta(1, 0, "{1}", 2),
        ToolCallDelta(0, 0, "{0}", 2),
        Finish(0, FinishReason.TOOL_CALLS, 2),
        Finish(1, FinishReason.TOOL_CALLS, 2),
        Done(USAGE),
    ]
    first, second = collect(events).choices
    assert first.tool_calls == (ToolCall("now", "{0}", "a"),)
    assert second.tool_calls == (ToolCall("now", "{1}", "b"),)
