// A user of the jose library, told what to do in lines of JSON. First argument: the folder it is installed in.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const resolve = createRequire(join(process.argv[2], "package.json")).resolve;
const jose = await import(pathToFileURL(resolve("jose")));

const keys = new Map(); // by key id
const commands = {
  // Checks a token against a key set that it fetches itself, strictly.
  async verify({ token, jwks, issuer, audience, now }) {
    const set = jose.createRemoteJWKSet(new URL(jwks), { cooldownDuration: 0 });
    const { payload, protectedHeader } = await jose.jwtVerify(token, set, {
      issuer, audience, algorithms: ["RS256"], typ: "JWT", currentDate: new Date(now * 1000),
      maxTokenAge: 3600, requiredClaims: ["sub", "iat", "nbf", "exp", "jti"],
    });
    return { payload, header: protectedHeader };
  },
  // The RFC 7638 thumbprint of a public key.
  async thumbprint({ jwk }) {
    return { thumbprint: await jose.calculateJwkThumbprint(jwk, "sha256") };
  },
  // Makes a key pair and answers its public part.
  async generate({ alg, kid }) {
    const { publicKey, privateKey } = await jose.generateKeyPair(alg, { modulusLength: 2048, extractable: true });
    keys.set(kid, privateKey);
    return { jwk: { ...(await jose.exportJWK(publicKey)), alg, kid, use: "sig" } };
  },
  // Signs claims with a key that generate made, or with a shared secret.
  async sign({ header, claims, kid, secret }) {
    const key = secret === undefined ? keys.get(kid) : new TextEncoder().encode(secret);
    return { token: await new jose.SignJWT(claims).setProtectedHeader(header).sign(key) };
  },
  async unsecured({ claims }) {
    return { token: new jose.UnsecuredJWT(claims).encode() };
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { cmd, ...args } = JSON.parse(line);
  let answer;
  try {
    answer = { ok: true, ...(await commands[cmd](args)) };
  } catch (e) {
    answer = { ok: false, code: e.code ?? "", message: String(e.message) };
  }
  process.stdout.write(JSON.stringify(answer) + "\n");
}
