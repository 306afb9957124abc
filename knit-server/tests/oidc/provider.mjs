// An OpenID Connect provider: prints its issuer, and lets in whoever gives a name as login.
//
//   node provider.mjs CLIENT_SECRET REDIRECT_URL
import { createServer } from 'node:http';
import Provider from 'oidc-provider';

const [secret, redirect] = process.argv.slice(2);
const groups = { eva: ['staff', 'knit-admins'], otto: ['staff'] };

const server = createServer().listen(0, '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, {
    clients: [{
      client_id: 'knit', client_secret: secret, redirect_uris: [redirect],
      response_types: ['code'], grant_types: ['authorization_code'],
    }],
    claims: { openid: ['sub'], email: ['email', 'email_verified'], groups: ['groups'] },
    pkce: { required: () => true, methods: ['S256'] },
    cookies: { keys: ['for tests alone'] },
    findAccount: (_, id) => ({
      accountId: id,
      claims: () => ({
        sub: id, email: `${id}@example.com`, email_verified: true, groups: groups[id] ?? [],
      }),
    }),
  });
  server.on('request', provider.callback());
  console.log(issuer);
});
// Whoever started it holds its input open.
process.stdin.on('end', () => process.exit(0)).resume();
