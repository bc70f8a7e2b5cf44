"""Tool calling over the native DashScope API: Qwen-Coder writes a script and has it saved by our function."""

import os
import json
import dashscope

dashscope.base_http_api_url = os.getenv("DASHSCOPE_HTTP_BASE_URL", "http://127.0.0.1:8000/api/v1")

tools = [
    {
        "type": "function",
        "function": {
            "name": "write_file",
            "description": "Writes content to the specified file. If the file does not exist, it is created.",
            "parameters": {
                "type": "object",
                "properties": {
                    "path": {
                        "type": "string",
                        "description": "The relative or absolute path of the target file."
                    },
                    "content": {
                        "type": "string",
                        "description": "The string content to write to the file."
                    }
                },
                "required": ["path", "content"]
            }
        }
    }
]

# What the tool does.
def write_file(path: str, content: str) -> str:
    """Write file content"""
    try:
        # Nothing is written, lest a model choose the path. Mind that before you take these lines in.
        # os.makedirs(os.path.dirname(path),exist_ok=True) if os.path.dirname(path) else None
        # with open(path, 'w', encoding='utf-8') as f:
        #     f.write(content)
        return f"Success: The file '{path}' has been written."
    except Exception as e:
        return f"Error: An exception occurred while writing the file - {str(e)}"

messages = [{"role": "user", "content": "Write a Python script for quick sort and name it quick_sort.py."}]

response = dashscope.Generation.call(
    # The key that `ownstudio key create` prints; the first start writes one to the data directory.
    api_key=os.getenv('DASHSCOPE_API_KEY'),
    model='qwen3-coder-plus',
    messages=messages,
    tools=tools,
    result_format='message'
)

if response.status_code == 200:
    assistant_output = response.output.choices[0].message
    messages.append(assistant_output)

    # The model may answer in words at once.
    if "tool_calls" not in assistant_output or not assistant_output["tool_calls"]:
        print(f"No tool call needed, responding directly: {assistant_output['content']}")
    else:
        # Call, answer, ask again, until the model has no more calls.
        while "tool_calls" in assistant_output and assistant_output["tool_calls"]:
            for tool_call in assistant_output["tool_calls"]:
                func_name = tool_call["function"]["name"]
                arguments = json.loads(tool_call["function"]["arguments"])
                tool_call_id = tool_call.get("id")
                print(f"Calling tool [{func_name}] with arguments: {arguments}")
                tool_result = write_file(**arguments)
                tool_message = {
                    "role": "tool",
                    "content": tool_result,
                    "tool_call_id": tool_call_id
                }
                print(f"Tool returned: {tool_message['content']}")
                messages.append(tool_message)

            response = dashscope.Generation.call(
                api_key=os.getenv('DASHSCOPE_API_KEY'),
                model='qwen3-coder-plus',
                messages=messages,
                tools=tools,
                result_format='message'
            )

            if response.status_code == 200:
                print(f"Model's final response: {response.output.choices[0].message.content}")
                assistant_output = response.output.choices[0].message
                messages.append(assistant_output)
            else:
                print(f"Error during summary response: {response}")
                break
else:
    print(f"Execution error: {response}")
