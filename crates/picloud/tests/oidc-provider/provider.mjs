// An OpenID Connect provider with its own login pages, for the tests of logging in with one. It prints its
// port and ends with its standard input. Whoever types a name is that person; a name that begins with
// `unverified` has an e-mail address that nobody checked.
//
// usage: node provider.mjs PUBLIC_URL

import { createServer } from 'node:http';
import Provider from 'oidc-provider';

// Whoever started it reads the port and no more: a notice in a pipe that nobody reads would end it.
console.info = console.error;

const [publicUrl] = process.argv.slice(2);
const callback = (name) => `${publicUrl}/api/v1/admin/auth/oidc/${name}/callback`;

const configuration = {
  clients: [
    { client_id: 'with-secret', client_secret: 'hush-hush', redirect_uris: [callback('open'), callback('closed')] },
    { client_id: 'without-secret', token_endpoint_auth_method: 'none', redirect_uris: [callback('public')] },
  ],
  claims: { email: ['email', 'email_verified'], profile: ['preferred_username'] },
  cookies: { keys: ['of the tests'] },
  pkce: { required: () => true },
  findAccount: (_, id) => ({
    accountId: id,
    claims: () => ({
      sub: id,
      email: id,
      email_verified: !id.startsWith('unverified'),
      preferred_username: id.split('@')[0],
    }),
  }),
};

const server = createServer((request, response) => answer(request, response));
let answer;
server.listen(0, '127.0.0.1', () => {
  const { port } = server.address();
  answer = new Provider(`http://127.0.0.1:${port}`, configuration).callback();
  process.stdout.write(`${port}\n`);
});
process.stdin.on('end', () => process.exit(0)).resume();
