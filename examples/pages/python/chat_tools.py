"""Tool calling: the model asks for the weather or the time, we look it up, until it has what it needs to answer."""

from openai import OpenAI
from datetime import datetime
import json
import os

client = OpenAI(
    # The key that `ownstudio key create` prints; the first start writes one to the data directory.
    api_key=os.getenv("DASHSCOPE_API_KEY"),
    base_url=os.getenv("DASHSCOPE_BASE_URL", "http://127.0.0.1:8000/compatible-mode/v1"),
)

# The model chooses by name and description.
tools = [
    {
        "type": "function",
        "function": {
            "name": "get_current_time",
            "description": "Useful for when you want to know the current time.",
            # It takes nothing.
            "parameters": {}
        }
    },
    {
        "type": "function",
        "function": {
            "name": "get_current_weather",
            "description": "Useful for querying the weather in a specific city.",
            "parameters": {
                "type": "object",
                "properties": {
                    "location": {
                        "type": "string",
                        "description": "A city or county, such as Beijing, Hangzhou, or Yuhang District."
                    }
                }
            },
            # The page has it here. JSON Schema has it inside of "parameters"; the server takes both.
            "required": [
                "location"
            ]
        }
    }
]

# What the tools do. This one makes its weather up.
def get_current_weather(location):
    return f"It is rainy in {location} today. "

def get_current_time():
    current_datetime = datetime.now()
    formatted_time = current_datetime.strftime('%Y-%m-%d %H:%M:%S')
    return f"Current time: {formatted_time}."

def get_response(messages):
    completion = client.chat.completions.create(
        model="qwen-plus",  # Any name that a deployment answers; GET /models lists them.
        messages=messages,
        tools=tools
        )
    return completion.model_dump()

def call_with_messages():
    print('\n')
    messages = [
            {
                "content": input('Please enter your query:'),  # "What time is it?", "What is the weather in Beijing?"
                "role": "user"
            }
    ]
    print("-"*60)
    i = 1
    first_response = get_response(messages)
    assistant_output = first_response['choices'][0]['message']
    print(f"\nModel output in round {i}: {first_response}\n")
    if assistant_output['content'] is None:
        assistant_output['content'] = ""
    messages.append(assistant_output)
    # The model may answer in words at once.
    if assistant_output['tool_calls'] == None:
        print(f"No tool call is needed. I can answer directly: {assistant_output['content']}")
        return
    # Call, answer, ask again, until the model has no more calls.
    while assistant_output['tool_calls'] != None:
        if assistant_output['tool_calls'][0]['function']['name'] == 'get_current_weather':
            tool_info = {"name": "get_current_weather", "role":"tool"}
            location = json.loads(assistant_output['tool_calls'][0]['function']['arguments'])['location']
            tool_info['content'] = get_current_weather(location)
        elif assistant_output['tool_calls'][0]['function']['name'] == 'get_current_time':
            tool_info = {"name": "get_current_time", "role":"tool"}
            tool_info['content'] = get_current_time()
        print(f"Tool output: {tool_info['content']}\n")
        print("-"*60)
        messages.append(tool_info)
        assistant_output = get_response(messages)['choices'][0]['message']
        if assistant_output['content'] is None:
            assistant_output['content'] = ""
        messages.append(assistant_output)
        i += 1
        print(f"Model output in round {i}: {assistant_output}\n")
    print(f"Final answer: {assistant_output['content']}")

if __name__ == '__main__':
    call_with_messages()
