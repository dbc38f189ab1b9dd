// An authorization server by other authors, with mutual TLS: oidc-provider, on one port that requests certificates.
// `node provider.mjs SETTINGS`: a JSON file with the port, the issuer, the folder of the TLS files, the clients, and for
// each resource its audience and, if its tokens are JWTs, the algorithm of the signature. Each user is alice, who allows
// everything. Names are compared in the simplest way that is correct for the certificates of these tests.

import { generateKeyPairSync } from "node:crypto";
import { readFileSync } from "node:fs";
import https from "node:https";
import Provider from "oidc-provider";

const settings = JSON.parse(readFileSync(process.argv[2], "utf8"));
const file = (name) => readFileSync(`${settings.directory}/${name}`);
const key = (alg, type, options) => {
  const jwk = generateKeyPairSync(type, options).privateKey.export({ format: "jwk" });
  return { ...jwk, kid: `signs ${alg}`, alg, use: "sig" };
};
const RSA = { modulusLength: 2048 };
const keys = [
  key("RS256", "rsa", RSA),
  key("PS256", "rsa", RSA),
  key("PS384", "rsa", RSA),
  key("ES256", "ec", { namedCurve: "P-256" }),
  key("ES384", "ec", { namedCurve: "P-384" }),
  key("ES512", "ec", { namedCurve: "P-521" }),
  key("EdDSA", "ed25519"),
  key("Ed25519", "ed25519"), // RFC 9864
];
const algorithms = keys.map((each) => each.alg);
const certificate = (ctx) => ctx.socket.getPeerX509Certificate();

const provider = new Provider(settings.issuer, {
  clients: settings.clients,
  clientAuthMethods: ["tls_client_auth", "self_signed_tls_client_auth", "client_secret_basic", "none"],
  jwks: { keys },
  enabledJWA: {
    idTokenSigningAlgValues: algorithms,
    introspectionSigningAlgValues: algorithms,
    requestObjectSigningAlgValues: ["PS256", "ES256", "ES384", "EdDSA", "Ed25519"],
  },
  clientDefaults: { id_token_signed_response_alg: "ES256" },
  scopes: ["invoices:read", "offline_access"],
  responseTypes: ["code"],
  issueRefreshToken: () => true,
  rotateRefreshToken: true,
  ttl: { Session: 60, Grant: 600, Interaction: 60, RefreshToken: 600 },
  interactions: { url: (ctx, interaction) => `/interaction/${interaction.uid}` },
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    introspection: { enabled: true, allowedPolicy: () => true },
    jwtIntrospection: { enabled: true },
    revocation: { enabled: true },
    pushedAuthorizationRequests: { enabled: true },
    requestObjects: { enabled: true },
    registration: { enabled: true },
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

// Logs the user in and grants what the client requested, without a page.
provider.use(async (ctx, next) => {
  if (!ctx.path.startsWith("/interaction/")) return next();
  const { prompt, params } = await provider.interactionDetails(ctx.req, ctx.res);
  const result = {};
  if (prompt.name === "login") result.login = { accountId: "alice" };
  else {
    const grant = new provider.Grant({ accountId: "alice", clientId: params.client_id });
    grant.addOIDCScope("invoices:read offline_access");
    grant.addResourceScope(params.resource, "invoices:read");
    result.consent = { grantId: await grant.save() };
  }
  ctx.respond = false;
  await provider.interactionFinished(ctx.req, ctx.res, result);
});

const tls = { cert: file("server.pem"), key: file("server-key.pem"), ca: file("ca.pem") };
https
  .createServer({ ...tls, requestCert: true, rejectUnauthorized: false }, provider.callback())
  .listen(settings.port, "127.0.0.1");
