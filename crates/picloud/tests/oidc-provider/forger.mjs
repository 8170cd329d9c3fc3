// An identity provider that answers every code with a token of the kind that the code names: one that
// is good, and those that somebody would make who wants to be believed without the provider's key.
//
// A code is `KIND~NONCE~CLIENT`. Prints its port.
import { createHmac, generateKeyPairSync, sign } from "node:crypto";
import { createServer } from "node:http";

const own = generateKeyPairSync("rsa", { modulusLength: 2048 });
const strange = generateKeyPairSync("rsa", { modulusLength: 2048 });
const jwk = { ...own.publicKey.export({ format: "jwk" }), kid: "one", alg: "RS256", use: "sig" };
const pem = own.publicKey.export({ type: "spki", format: "pem" });
const der = own.publicKey.export({ type: "spki", format: "der" });

const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
const byKey = ({ privateKey }) => (text) => sign("sha256", Buffer.from(text), privateKey).toString("base64url");
const byHmac = (key) => (text) => createHmac("sha256", key).update(text).digest("base64url");
const unsigned = () => "";
const rs256 = { alg: "RS256", kid: "one" };
const hs256 = { alg: "HS256", kid: "one" };

const kinds = {
  good: [rs256, byKey(own)],
  none: [{ alg: "none" }, unsigned],
  "none-in-capitals": [{ alg: "NONE", kid: "one" }, unsigned],
  "without-signature": [rs256, unsigned],
  "hmac-by-pem": [hs256, byHmac(pem)],
  "hmac-by-der": [hs256, byHmac(der)],
  "hmac-by-modulus": [hs256, byHmac(Buffer.from(jwk.n, "base64url"))],
  "hmac-by-nothing": [hs256, byHmac("")],
  "by-a-strange-key": [rs256, byKey(strange)],
  "brings-its-key": [{ ...rs256, kid: "two", jwk: strange.publicKey.export({ format: "jwk" }) }, byKey(strange)],
  "for-another": [rs256, byKey(own), { aud: "somebody-else" }],
  "of-another": [rs256, byKey(own), { iss: "https://accounts.example" }],
  "too-old": [rs256, byKey(own), { iat: 1_700_000_000, exp: 1_700_000_600 }],
};

function forged(issuer, kind, nonce, client) {
  const [header, signature, changes] = kinds[kind];
  const now = Math.floor(Date.now() / 1000);
  const claims = {
    iss: issuer, sub: "mallory", aud: client, iat: now, exp: now + 600, nonce,
    email: "mallory@example.net", email_verified: true, ...changes,
  };
  const text = `${part(header)}.${part(claims)}`;
  return `${text}.${signature(text)}`;
}

const server = createServer(async (request, response) => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  let body = "";
  for await (const chunk of request) body += chunk;
  const answers = {
    "/.well-known/openid-configuration": () => ({
      issuer,
      authorization_endpoint: `${issuer}/auth`,
      token_endpoint: `${issuer}/token`,
      jwks_uri: `${issuer}/jwks`,
      response_types_supported: ["code"],
      subject_types_supported: ["public"],
      id_token_signing_alg_values_supported: ["RS256", "HS256", "none"],
    }),
    "/jwks": () => ({ keys: [jwk] }),
    "/token": () => {
      const [kind, nonce, client] = new URLSearchParams(body).get("code").split("~");
      return { access_token: "any", token_type: "Bearer", expires_in: 60, id_token: forged(issuer, kind, nonce, client) };
    },
  };
  const answer = answers[request.url.split("?")[0]];
  response.writeHead(answer ? 200 : 404, { "content-type": "application/json" });
  response.end(JSON.stringify(answer ? answer() : {}));
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
process.stdin.on("end", () => process.exit()).resume();
