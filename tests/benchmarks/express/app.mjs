// The application of served.py in Express: `node app.mjs bare|own|by_hand PORT`.
// own: express-oauth2-jwt-bearer checks the binding itself (its `mtls` option). It hashes what is within the PEM, and
// reads no certificate. by_hand: it checks the token, and what is behind it the certificate: thumbprint and DNS name.
// BENCHMARK_ISSUER is JSON: issuer, audience, jwks, path, scope, client (a DNS name).

import { X509Certificate, createHash } from "node:crypto";
import express from "express";
import { InvalidTokenError, auth, requiredScopes } from "express-oauth2-jwt-bearer";

const [kind, port] = process.argv.slice(2);
const { issuer, audience, jwks, path, scope, client } = JSON.parse(process.env.BENCHMARK_ISSUER);
const invoices = [0, 1, 2].map((number) => ({ number: `2025-00${number}`, amount: "129.90", currency: "EUR", paid: false }));
const pem = (request) => decodeURIComponent(request.get("x-ssl-client-cert"));
const token = { issuer, audience, publicKey: jwks };

function certificate(request, response, next) {
  const presented = new X509Certificate(pem(request));
  const thumbprint = createHash("sha256").update(presented.raw).digest("base64url");
  if (request.auth.payload.cnf?.["x5t#S256"] !== thumbprint) throw new InvalidTokenError("another certificate");
  if (!presented.checkHost(client)) throw new InvalidTokenError("another client");
  next();
}

const guards = {
  bare: [],
  own: [auth({ ...token, mtls: { enabled: true, required: true }, getCertificate: pem }), requiredScopes(scope)],
  by_hand: [auth(token), requiredScopes(scope), certificate],
};

const app = express();
app.get(path, ...guards[kind], (request, response) => response.json(invoices));
app.listen(Number(port), "127.0.0.1");
