"""What both OpenAI endpoints ask in the same words: the model and how to stream."""

from ownstudio.dialects.fields import Fields, boolean, malformed, missing, text, wrong_type

MODEL_NAME_CHARACTERS_MAX = 256


def read_model_name(fields: Fields) -> str:
    name = text(fields, "model")
    if not name:
        raise missing("model")
    if len(name) > MODEL_NAME_CHARACTERS_MAX:
        raise malformed("model", f"'model' is longer than {MODEL_NAME_CHARACTERS_MAX} characters")
    return name


def read_stream(fields: Fields) -> tuple[bool, bool]:
    """Whether to stream, and whether the stream ends with a usage chunk."""
    stream = boolean(fields, "stream")
    options = fields.get("stream_options")
    if options is None:
        return stream, False
    if type(options) is not dict:
        raise wrong_type("stream_options", "Object")
    include_usage = options.get("include_usage")
    if include_usage is not None and type(include_usage) is not bool:
        raise wrong_type("stream_options.include_usage", "Boolean")
    return stream, stream and bool(include_usage)
