"""LangChain's chat model, the whole answer at once."""

from langchain_openai import ChatOpenAI
import os

def get_response():
    llm = ChatOpenAI(
        # The key that `ownstudio key create` prints; the first start writes one to the data directory.
        api_key=os.getenv("DASHSCOPE_API_KEY"),
        base_url=os.getenv("DASHSCOPE_BASE_URL", "http://127.0.0.1:8000/compatible-mode/v1"),
        model="qwen-plus"  # Any name that a deployment answers; GET /models lists them.
        )
    messages = [
        {"role":"system","content":"You are a helpful assistant."},
        {"role":"user","content":"Who are you?"}
    ]
    response = llm.invoke(messages)
    print(response.json())

if __name__ == "__main__":
    get_response()
