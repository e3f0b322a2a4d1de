"""A program that uses a vendor's SDK and knows nothing of lessor. Arguments: PROVIDER REQUESTS PROMPT"""

import sys


def anthropic(prompt, stream):
    import anthropic

    client = anthropic.Anthropic()
    request = dict(model="claude-sonnet-4-5", max_tokens=100, messages=[{"role": "user", "content": prompt}])
    if stream:
        with client.messages.stream(**request) as events:
            return "".join(events.text_stream)
    return client.messages.create(**request).content[0].text


def openai(prompt, stream):
    import openai

    client = openai.OpenAI()
    if stream:
        events = client.responses.create(model="gpt-5", input=prompt, stream=True)
        return "".join(event.delta for event in events if event.type == "response.output_text.delta")
    return client.responses.create(model="gpt-5", input=prompt).output_text


def google(prompt, stream):
    from google import genai

    client = genai.Client()
    if stream:
        chunks = client.models.generate_content_stream(model="gemini-2.5-pro", contents=prompt)
        return "".join(chunk.text for chunk in chunks)
    return client.models.generate_content(model="gemini-2.5-pro", contents=prompt).text


send = {"anthropic": anthropic, "openai": openai, "google": google}[sys.argv[1]]
for number in range(int(sys.argv[2])):
    response = send(sys.argv[3], stream=number % 2 == 1)
print(response)
