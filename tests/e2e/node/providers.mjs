// OpenAI's Node SDK against one provider: `MODEL=group node providers.mjs CASE`. Exit status 0 when the case holds.
import assert from "node:assert/strict";
import OpenAI from "openai";

const { GATEWAY_URL, GATEWAY_KEY, MODEL, QUESTION, WEATHER, EXPECTED_ANSWER, RESULT } = process.env;
const client = new OpenAI({ baseURL: `${GATEWAY_URL}/v1`, apiKey: GATEWAY_KEY, maxRetries: 0 });
const model = MODEL;
const messages = [{ role: "user", content: QUESTION }];
const schema = {
  type: "object", properties: { city: { type: "string" } }, required: ["city"], additionalProperties: false,
};
const tools = [{ type: "function", function: { name: "get_weather", parameters: schema } }];

const cases = {
  async chat() {
    const answer = await client.chat.completions.create({ model, messages });
    assert.equal(answer.choices[0].message.content, EXPECTED_ANSWER);
    assert.equal(answer.model, model);
    assert.ok(answer.usage.total_tokens > 0);
  },
  async stream() {
    const stream = await client.chat.completions.create({
      model, messages, stream: true, stream_options: { include_usage: true },
    });
    let text = "";
    let usage = null;
    for await (const chunk of stream) {
      text += chunk.choices[0]?.delta?.content ?? "";
      usage = chunk.usage ?? usage;
    }
    assert.equal(text, EXPECTED_ANSWER);
    assert.ok(usage.completion_tokens > 0);
  },
  async tools() {
    const ask = [{ role: "user", content: WEATHER }];
    const runner = client.chat.completions.stream({ model, messages: ask, tools });
    const message = await runner.finalMessage();
    assert.deepEqual(JSON.parse(message.tool_calls[0].function.arguments), { city: "Genève" });
    const turns = [...ask, message, { role: "tool", tool_call_id: message.tool_calls[0].id, content: RESULT }];
    const second = await client.chat.completions.create({ model, messages: turns, tools });
    assert.equal(second.choices[0].message.content, `The tool said: ${RESULT}`);
  },
  async structured() {
    const answer = await client.chat.completions.parse({
      model, messages, response_format: { type: "json_schema", json_schema: { name: "place", strict: true, schema } },
    });
    assert.deepEqual(JSON.parse(answer.choices[0].message.content), { city: "Genève" });
  },
  async responses() {
    const stream = client.responses.stream({ model, input: QUESTION });
    const final = await stream.finalResponse();
    assert.equal(final.output[0].content[0].text, EXPECTED_ANSWER);
    assert.equal(final.status, "completed");
  },
  async error() {
    const headers = { "x-fake-script": `${model}=status:429,retry-after:1` };
    await assert.rejects(client.chat.completions.create({ model, messages }, { headers }), (error) => {
      assert.ok(error instanceof OpenAI.RateLimitError, String(error));
      return true;
    });
  },
};

const run = cases[process.argv[2]];
assert.ok(run, `no such case: ${process.argv[2]}`);
await run();
process.exit(0);
