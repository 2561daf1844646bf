// node list_and_call.mjs <v1|v2|v2-handshake> <url> <key> <tool> <arguments>
// Lists a server's tools and calls one with an official TypeScript client; prints {revision, tools, result}.
const [sdk, url, key, tool, args] = process.argv.slice(2);
const transportOptions = { requestInit: { headers: { Authorization: `Bearer ${key}` } } };

async function v1() {
  const { Client } = await import("@modelcontextprotocol/sdk/client/index.js");
  const { StreamableHTTPClientTransport } = await import("@modelcontextprotocol/sdk/client/streamableHttp.js");
  const client = new Client({ name: "typescript-v1", version: "1" });
  const transport = new StreamableHTTPClientTransport(new URL(url), transportOptions);
  await client.connect(transport);
  return [client, transport.protocolVersion];
}

async function v2(mode) {
  const { Client, StreamableHTTPClientTransport } = await import("@modelcontextprotocol/client");
  const client = new Client({ name: "typescript-v2", version: "1" }, { versionNegotiation: { mode } });
  await client.connect(new StreamableHTTPClientTransport(new URL(url), transportOptions));
  return [client, client.getNegotiatedProtocolVersion()];
}

const [client, revision] = sdk === "v1" ? await v1() : await v2(sdk === "v2" ? "auto" : "legacy");
const { tools } = await client.listTools();
const result = await client.callTool({ name: tool, arguments: JSON.parse(args) });
console.log(JSON.stringify({ revision, tools: tools.map(({ name }) => name), result }));
await client.close();
