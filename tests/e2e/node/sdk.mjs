// OpenAI's Node SDK against the gateway: `node sdk.mjs CASE`. Exit status 0 when the case holds.
import assert from "node:assert/strict";
import OpenAI from "openai";

const { GATEWAY_URL, GATEWAY_KEY, EXPECTED_ANSWER } = process.env;
const client = new OpenAI({ baseURL: `${GATEWAY_URL}/v1`, apiKey: GATEWAY_KEY, maxRetries: 0 });
const messages = [{ role: "user", content: "What does an attaché do?" }];

const cases = {
  async chat() {
    const answer = await client.chat.completions.create({ model: "gpt-4o", messages });
    assert.equal(answer.choices[0].message.content, EXPECTED_ANSWER);
    assert.equal(answer.model, "gpt-4o");
    assert.ok(answer.usage.total_tokens > 0);
  },
  async stream() {
    const stream = await client.chat.completions.create({
      model: "gpt-4o", messages, stream: true, stream_options: { include_usage: true },
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
  async embeddings() {
    const answer = await client.embeddings.create({
      model: "text-embedding-3-small", input: ["a", "b"], encoding_format: "float",
    });
    assert.equal(answer.data.length, 2);
  },
  async abort() {
    const stream = await client.chat.completions.create(
      { model: "gpt-4o", messages, stream: true },
      { headers: { "x-fake-script": "one=chunk-delay:50,chunks:500" } },
    );
    let seen = 0;
    for await (const _ of stream) {
      seen += 1;
      if (seen === 3) break;
    }
    assert.equal(seen, 3);
  },
  async unauthorized() {
    const stranger = new OpenAI({ baseURL: `${GATEWAY_URL}/v1`, apiKey: "sk-nobody-knows-this-key", maxRetries: 0 });
    await assert.rejects(stranger.chat.completions.create({ model: "gpt-4o", messages }), (error) => {
      assert.ok(error instanceof OpenAI.AuthenticationError);
      assert.equal(error.type, "token_not_found_in_db");
      return true;
    });
  },
  async forbidden() {
    await assert.rejects(client.chat.completions.create({ model: "reserved", messages }), (error) => {
      assert.ok(error instanceof OpenAI.PermissionDeniedError);
      assert.equal(error.param, "model");
      return true;
    });
  },
  async fallback() {
    const { data, response } = await client.chat.completions
      .create({ model: "gpt-4o", messages }, { headers: { "x-fake-script": "one=status:500" } })
      .withResponse();
    assert.equal(data.choices[0].message.content, EXPECTED_ANSWER);
    assert.equal(response.headers.get("x-litellm-attempted-fallbacks"), "1");
  },
};

const run = cases[process.argv[2]];
assert.ok(run, `no such case: ${process.argv[2]}`);
await run();
process.exit(0);
