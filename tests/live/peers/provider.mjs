// An authorization server by others, with mutual TLS: oidc-provider, on one port that asks for certificates.
// `node provider.mjs SETTINGS`: a JSON file with port, issuer, folder of TLS files, clients, and for each resource that
// a client may ask a token for its audience and the algorithm of the signature, where tokens are not opaque.
// Names are compared here in the simplest way that is right for the certificates of the tests.

import { generateKeyPairSync } from "node:crypto";
import { readFileSync } from "node:fs";
import https from "node:https";
import Provider from "oidc-provider";

const settings = JSON.parse(readFileSync(process.argv[2], "utf8"));
const file = (name) => readFileSync(`${settings.directory}/${name}`);
const key = (alg, type, options) => {
  const made = generateKeyPairSync(type, options).privateKey.export({ format: "jwk" });
  return { ...made, kid: `signs ${alg}`, alg, use: "sig" };
};
const keys = [
  key("RS256", "rsa", { modulusLength: 2048 }),
  key("PS256", "rsa", { modulusLength: 2048 }),
  key("ES256", "ec", { namedCurve: "P-256" }),
  key("EdDSA", "ed25519"),
  key("Ed25519", "ed25519"), // RFC 9864: a neighbour in the key set, whom not everybody knows
];
const certificate = (ctx) => ctx.socket.getPeerX509Certificate();

const provider = new Provider(settings.issuer, {
  clients: settings.clients,
  clientAuthMethods: ["tls_client_auth", "self_signed_tls_client_auth", "client_secret_basic", "none"],
  jwks: { keys },
  enabledJWA: { idTokenSigningAlgValues: keys.map((each) => each.alg) },
  clientDefaults: { id_token_signed_response_alg: "ES256" },
  scopes: ["invoices:read"],
  responseTypes: ["code"],
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    introspection: { enabled: true, allowedPolicy: () => true },
    jwtIntrospection: { enabled: true },
    revocation: { enabled: true },
    mTLS: {
      enabled: true,
      certificateBoundAccessTokens: true,
      tlsClientAuth: true,
      selfSignedTlsClientAuth: true,
      getCertificate: certificate,
      certificateAuthorized: (ctx) => ctx.socket.authorized,
      certificateSubjectMatches: (ctx, property, expected) =>
        property === "tls_client_auth_san_dns" && certificate(ctx).subjectAltName === `DNS:${expected}`,
    },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (ctx, resource) => ({
        scope: "invoices:read",
        audience: settings.resources[resource].audience,
        accessTokenFormat: settings.resources[resource].alg ? "jwt" : "opaque",
        accessTokenTTL: 300,
        jwt: { sign: { alg: settings.resources[resource].alg } },
      }),
    },
  },
});

const tls = { cert: file("server.pem"), key: file("server-key.pem"), ca: file("ca.pem") };
https
  .createServer({ ...tls, requestCert: true, rejectUnauthorized: false }, provider.callback())
  .listen(settings.port, "127.0.0.1");
