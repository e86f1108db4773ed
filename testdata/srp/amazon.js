// Answers the challenges on stdin with amazon-cognito-identity-js. Run by generate.py.
'use strict';
const crypto = require('crypto');
const path = require('path');
const { createRequire } = require('module');
const need = createRequire(path.join(process.cwd(), 'x.js')); // node_modules stands where the script was started
const AuthenticationHelper = need('amazon-cognito-identity-js/lib/AuthenticationHelper').default;
const BigInteger = need('amazon-cognito-identity-js/lib/BigInteger').default;
const DateHelper = need('amazon-cognito-identity-js/lib/DateHelper').default;

const RealDate = Date;
function nowString(time) {
  global.Date = class extends RealDate {
    constructor() { super(time); }
  };
  try {
    return new DateHelper().getNowString();
  } finally {
    global.Date = RealDate;
  }
}

function prove(c) {
  const helper = new AuthenticationHelper(c.poolName);
  helper.smallAValue = new BigInteger(c.a, 16);
  helper.largeAValue = undefined;
  let A, key;
  helper.getLargeAValue((err, value) => { if (err) throw err; A = value; });
  helper.getPasswordAuthenticationKey(c.userId, c.password, new BigInteger(c.B, 16), new BigInteger(c.salt, 16),
    (err, value) => { if (err) throw err; key = value; });
  const timestamp = nowString(c.time);
  // The message as CognitoUser.authenticateUserDefaultAuth puts it together.
  const signature = crypto.createHmac('sha256', Buffer.from(key))
    .update(c.poolName, 'utf8').update(c.userId, 'utf8')
    .update(Buffer.from(c.secretBlock, 'base64')).update(timestamp, 'utf8').digest('base64');
  return { A: A.toString(16), timestamp, signature };
}

const input = JSON.parse(require('fs').readFileSync(0, 'utf8'));
process.stdout.write(JSON.stringify({ proofs: input.proofs.map(prove), times: input.times.map(nowString) }));
