// OAuth clients by other authors. Each line of standard input is the settings of one action (JSON). Each line of standard
// output is the library's result, and every URL that the library requested. Each action has connections of its own.

import { createInterface } from "node:readline";
import * as oauth4webapi from "oauth4webapi";
import * as openid from "openid-client";
import { Agent, fetch } from "undici";

const TIMEOUT = 20_000; // milliseconds

async function openidClient(settings, customFetch) {
  const { action, client, token } = settings;
  const authentication = openid[settings.method](settings.secret);
  const options = { algorithm: "oauth2", [openid.customFetch]: customFetch };
  const issuer = new URL(settings.issuer);
  if (action === "registration") {
    const registered = await openid.dynamicClientRegistration(issuer, client, authentication, options);
    return registered.clientMetadata();
  }
  const config = await openid.discovery(issuer, client.client_id, client, authentication, options);
  if (action === "client_credentials") return openid.clientCredentialsGrant(config, settings.parameters);
  if (action === "authorization_code") return byCode(config, settings, customFetch);
  if (action === "refresh_token") return openid.refreshTokenGrant(config, token, settings.at_token_endpoint);
  if (action === "introspection") return openid.tokenIntrospection(config, token);
  if (action === "revocation") return openid.tokenRevocation(config, token);
  if (action === "resource") return read(await openid.fetchProtectedResource(config, token, new URL(settings.url), "GET"));
}

// The query of an authorization request. `settings.request_object_key`: a private JWK that signs it (RFC 9101).
// `settings.pushed`: the request is pushed (RFC 9126).
async function byCode(config, settings, customFetch) {
  const pkceCodeVerifier = openid.randomPKCECodeVerifier();
  const expectedState = openid.randomState();
  const parameters = {
    redirect_uri: settings.redirect_uri,
    state: expectedState,
    code_challenge: await openid.calculatePKCECodeChallenge(pkceCodeVerifier),
    code_challenge_method: "S256",
    ...settings.parameters,
  };
  let address = openid.buildAuthorizationUrl(config, parameters);
  if (settings.request_object_key)
    address = await openid.buildAuthorizationUrlWithJAR(config, parameters, await imported(settings.request_object_key));
  if (settings.pushed) address = await openid.buildAuthorizationUrlWithPAR(config, address.searchParams);
  const location = await browse(address, settings.redirect_uri, customFetch);
  return openid.authorizationCodeGrant(config, location, { pkceCodeVerifier, expectedState }, settings.at_token_endpoint);
}

async function imported({ alg, ...jwk }) {
  const algorithm = {
    PS256: { name: "RSA-PSS", hash: "SHA-256" },
    ES256: { name: "ECDSA", namedCurve: "P-256" },
    ES384: { name: "ECDSA", namedCurve: "P-384" },
    Ed25519: { name: "Ed25519" },
  }[alg];
  return crypto.subtle.importKey("jwk", jwk, algorithm, false, ["sign"]);
}

// Follows redirects with cookies, as a browser does, up to the client's redirect_uri.
async function browse(address, redirectURI, customFetch) {
  const cookies = new Map();
  for (let redirects = 0; redirects < 10; redirects++) {
    const cookie = [...cookies].map((each) => each.join("=")).join("; ");
    const response = await customFetch(address, { redirect: "manual", headers: { cookie } });
    for (const each of response.headers.getSetCookie()) {
      const [name, ...value] = each.split(";")[0].split("=");
      cookies.set(name, value.join("="));
    }
    const location = response.headers.get("location");
    if (location === null) throw new Error(`${response.status}: ${await response.text()}`);
    address = new URL(location, address);
    if (address.href.startsWith(redirectURI)) return address;
  }
  throw new Error(`more than 10 redirects, the last one to ${address}`);
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
  if (action === "authorization_code") return pushedCode(asItself, settings, customFetch);
  if (action === "registration") {
    const response = await oauth4webapi.dynamicClientRegistrationRequest(as, client, options);
    return oauth4webapi.processDynamicClientRegistrationResponse(response);
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

// oauth4webapi builds no URL of an authorization request, so it always pushes the request here (RFC 9126).
async function pushedCode([as, client, authentication], settings, customFetch) {
  const options = { [oauth4webapi.customFetch]: customFetch };
  const verifier = oauth4webapi.generateRandomCodeVerifier();
  const state = oauth4webapi.generateRandomState();
  let parameters = new URLSearchParams({
    client_id: client.client_id,
    response_type: "code",
    redirect_uri: settings.redirect_uri,
    state,
    code_challenge: await oauth4webapi.calculatePKCECodeChallenge(verifier),
    code_challenge_method: "S256",
    ...settings.parameters,
  });
  if (settings.request_object_key) {
    const key = await imported(settings.request_object_key);
    parameters = { request: await oauth4webapi.issueRequestObject(as, client, parameters, key) };
  }
  const response = await oauth4webapi.pushedAuthorizationRequest(as, client, authentication, parameters, options);
  const { request_uri } = await oauth4webapi.processPushedAuthorizationResponse(as, client, response);
  const address = new URL(as.authorization_endpoint);
  address.search = new URLSearchParams({ client_id: client.client_id, request_uri });
  const location = await browse(address, settings.redirect_uri, customFetch);
  const found = oauth4webapi.validateAuthResponse(as, client, location, state);
  const asked = [as, client, authentication, found, settings.redirect_uri, verifier];
  const more = { ...options, additionalParameters: settings.at_token_endpoint };
  const granted = await oauth4webapi.authorizationCodeGrantRequest(...asked, more);
  return oauth4webapi.processAuthorizationCodeResponse(as, client, granted);
}

async function read(response) {
  return { status: response.status, body: await response.json() };
}

// A rejection as the library understands it: the error of the body (RFC 6749 5.2), or the challenges (RFC 6750 3).
// Every other exception fails the test, because a response that the library cannot read is not a rejection.
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
