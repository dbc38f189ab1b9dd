// OAuth clients by others. Each line of standard input is the settings of one action (JSON); each line of standard
// output is what the library made of it, and every address that it asked. Each action has connections of its own.

import { createInterface } from "node:readline";
import * as oauth4webapi from "oauth4webapi";
import * as openid from "openid-client";
import { Agent, fetch } from "undici";

const TIMEOUT = 20_000; // milliseconds

async function openidClient(settings, customFetch) {
  const { action, client, token } = settings;
  const authentication = openid[settings.method](settings.secret);
  const options = { algorithm: "oauth2", [openid.customFetch]: customFetch };
  const config = await openid.discovery(new URL(settings.issuer), client.client_id, client, authentication, options);
  if (action === "client_credentials") return openid.clientCredentialsGrant(config, settings.parameters);
  if (action === "authorization_code") return byCode(config, settings, customFetch);
  if (action === "refresh_token") return openid.refreshTokenGrant(config, token);
  if (action === "introspection") return openid.tokenIntrospection(config, token);
  if (action === "revocation") return openid.tokenRevocation(config, token);
  if (action === "resource") return read(await openid.fetchProtectedResource(config, token, new URL(settings.url), "GET"));
}

async function byCode(config, settings, customFetch) {
  const pkceCodeVerifier = openid.randomPKCECodeVerifier();
  const expectedState = openid.randomState();
  const address = openid.buildAuthorizationUrl(config, {
    redirect_uri: settings.redirect_uri,
    state: expectedState,
    code_challenge: await openid.calculatePKCECodeChallenge(pkceCodeVerifier),
    code_challenge_method: "S256",
  });
  const response = await customFetch(address, { redirect: "manual" });
  const location = new URL(response.headers.get("location"));
  return openid.authorizationCodeGrant(config, location, { pkceCodeVerifier, expectedState });
}

async function oauth4webapiClient(settings, customFetch) {
  const { action, client, token } = settings;
  const issuer = new URL(settings.issuer);
  const options = { [oauth4webapi.customFetch]: customFetch };
  const found = await oauth4webapi.discoveryRequest(issuer, { algorithm: "oauth2", ...options });
  const as = await oauth4webapi.processDiscoveryResponse(issuer, found);
  const asItself = [as, client, oauth4webapi[settings.method](settings.secret)];
  if (action === "client_credentials") {
    const response = await oauth4webapi.clientCredentialsGrantRequest(...asItself, settings.parameters, options);
    return oauth4webapi.processClientCredentialsResponse(as, client, response);
  }
  if (action === "introspection") {
    const response = await oauth4webapi.introspectionRequest(...asItself, token, options);
    return oauth4webapi.processIntrospectionResponse(as, client, response);
  }
  if (action === "revocation")
    return oauth4webapi.processRevocationResponse(await oauth4webapi.revocationRequest(...asItself, token, options));
  if (action === "resource") {
    const url = new URL(settings.url);
    return read(await oauth4webapi.protectedResourceRequest(token, "GET", url, undefined, undefined, options));
  }
}

async function read(response) {
  return { status: response.status, body: await response.json() };
}

// A refusal as the library understands it: the error of the body (RFC 6749 5.2), or the challenges (RFC 6750 3).
// Whatever else it throws fails the test: an answer that it cannot read is no refusal.
async function refusal(error) {
  if (error.code === oauth4webapi.RESPONSE_BODY_ERROR) return { status: error.status, error: error.error };
  if (error.code === oauth4webapi.WWW_AUTHENTICATE_CHALLENGE)
    return { status: error.status, challenges: error.cause, error: (await error.response.json()).error };
  throw error;
}

async function act(settings) {
  const library = { "openid-client": openidClient, oauth4webapi: oauth4webapiClient }[settings.library];
  const dispatcher = new Agent({ connect: settings.tls });
  const requests = [];
  const customFetch = (url, options) => {
    requests.push(String(url).split("?")[0]);
    return fetch(url, { signal: AbortSignal.timeout(TIMEOUT), ...options, dispatcher });
  };
  try {
    const answer = await library(settings, customFetch).catch(refusal);
    return { answer: answer ?? null, requests };
  } catch (error) {
    return { failure: `${error.stack}\n${error.cause?.stack ?? JSON.stringify(error.cause)}`, requests };
  } finally {
    await dispatcher.destroy();
  }
}

for await (const line of createInterface({ input: process.stdin }))
  process.stdout.write(JSON.stringify(await act(JSON.parse(line))) + "\n");
