// One user of the official Signal library, driven over standard input and output: a JSON object a line in, a JSON object
// a line out, in order. Usage: node oracle.js FOLDER, where FOLDER holds node_modules with @signalapp/libsignal-client.
//
//   {op: "self"}                                    -> {identity, registrationId}
//   {op: "bundle", oneTime: bool}                   -> {registrationId, identity, signed: {id, key, signature}, preKey?: {id, key}}
//   {op: "start", peer, bundle}                     -> {}
//   {op: "encrypt", peer, text}                     -> {type: "pkmsg"|"msg", body}
//   {op: "decrypt", peer, type, body}               -> {text, usedPreKeys}
//   {op: "safety", iterations, version, ours: {identifier, identity}, theirs: {…}, scanned?}
//                                                   -> {digits, scannable, equal?}
//
// Bytes are base64; public keys are 32 bytes without the type byte. A failure is {error: name}.
'use strict';

const path = require('path');
const readline = require('readline');
const { createRequire } = require('module');

const S = createRequire(path.join(path.resolve(process.argv[2]), 'node_modules', 'entry.js'))('@signalapp/libsignal-client');

const b64 = (bytes) => Buffer.from(bytes).toString('base64');
const bytesOf = (text) => Buffer.from(text, 'base64');
const bare = (publicKey) => b64(Buffer.from(publicKey.serialize()).subarray(1));
const typed = (text) => S.PublicKey.deserialize(Buffer.concat([Buffer.from([5]), bytesOf(text)]));

// Addresses have no text form of their own in every version.
const rowOf = (name) => `${name.name()}.${name.deviceId()}`;

class Sessions extends S.SessionStore {
  rows = new Map();
  async saveSession(name, record) { this.rows.set(rowOf(name), record.serialize()); }
  async getSession(name) {
    const row = this.rows.get(rowOf(name));
    return row ? S.SessionRecord.deserialize(row) : null;
  }
  async getExistingSessions(names) { return Promise.all(names.map((n) => this.getSession(n))); }
}

class Identities extends S.IdentityKeyStore {
  own = S.PrivateKey.generate();
  registrationId = 1 + Math.floor(Math.random() * 16380);
  rows = new Map();
  async getIdentityKey() { return this.own; }
  async getLocalRegistrationId() { return this.registrationId; }
  async saveIdentity(name, key) {
    const before = this.rows.get(rowOf(name));
    const now = b64(key.serialize());
    this.rows.set(rowOf(name), now);
    // Later versions ask for a number (0 new or same, 1 replaced), earlier ones for a boolean.
    const replaced = before !== undefined && before !== now;
    return S.IdentityChange ? (replaced ? 1 : 0) : replaced;
  }
  async isTrustedIdentity() { return true; }
  async getIdentity(name) {
    const row = this.rows.get(rowOf(name));
    return row ? S.PublicKey.deserialize(bytesOf(row)) : null;
  }
}

class PreKeys extends S.PreKeyStore {
  rows = new Map();
  removed = 0;
  async savePreKey(id, record) { this.rows.set(id, record.serialize()); }
  async getPreKey(id) {
    if (!this.rows.has(id)) throw new Error('no such prekey');
    return S.PreKeyRecord.deserialize(this.rows.get(id));
  }
  async removePreKey(id) { this.rows.delete(id); this.removed++; }
}

class SignedPreKeys extends S.SignedPreKeyStore {
  rows = new Map();
  async saveSignedPreKey(id, record) { this.rows.set(id, record.serialize()); }
  async getSignedPreKey(id) {
    if (!this.rows.has(id)) throw new Error('no such signed prekey');
    return S.SignedPreKeyRecord.deserialize(this.rows.get(id));
  }
}

const KyberBase = S.KyberPreKeyStore || class {};
class NoKyber extends KyberBase {
  async saveKyberPreKey() { throw new Error('not used'); }
  async getKyberPreKey() { throw new Error('not used'); }
  async markKyberPreKeyUsed() { throw new Error('not used'); }
}

const sessions = new Sessions();
const identities = new Identities();
const preKeys = new PreKeys();
const signedPreKeys = new SignedPreKeys();
const kyber = new NoKyber();
let nextId = 1;

const address = (peer) => S.ProtocolAddress.new(peer, 1);

const operations = {
  async self() {
    return { identity: bare(identities.own.getPublicKey()), registrationId: identities.registrationId };
  },

  async bundle({ oneTime }) {
    const id = nextId++;
    const pair = S.PrivateKey.generate();
    const signature = identities.own.sign(pair.getPublicKey().serialize());
    await signedPreKeys.saveSignedPreKey(id,
      S.SignedPreKeyRecord.new(id, Date.now(), pair.getPublicKey(), pair, signature));
    const answer = {
      registrationId: identities.registrationId,
      identity: bare(identities.own.getPublicKey()),
      signed: { id, key: bare(pair.getPublicKey()), signature: b64(signature) },
    };
    if (oneTime) {
      const one = S.PrivateKey.generate();
      await preKeys.savePreKey(id, S.PreKeyRecord.new(id, one.getPublicKey(), one));
      answer.preKey = { id, key: bare(one.getPublicKey()) };
    }
    return answer;
  },

  async start({ peer, bundle }) {
    const made = S.PreKeyBundle.new(bundle.registrationId, 1,
      bundle.preKey ? bundle.preKey.id : null, bundle.preKey ? typed(bundle.preKey.key) : null,
      bundle.signed.id, typed(bundle.signed.key), bytesOf(bundle.signed.signature), typed(bundle.identity));
    await S.processPreKeyBundle(made, address(peer), sessions, identities);
    return {};
  },

  async encrypt({ peer, text }) {
    const message = await S.signalEncrypt(bytesOf(text), address(peer), sessions, identities);
    const type = message.type() === S.CiphertextMessageType.PreKey ? 'pkmsg' : 'msg';
    return { type, body: b64(message.serialize()) };
  },

  async safety({ iterations, version, ours, theirs, scanned }) {
    const made = S.Fingerprint.new(iterations, version, bytesOf(ours.identifier), typed(ours.identity),
      bytesOf(theirs.identifier), typed(theirs.identity));
    const scannable = made.scannableFingerprint();
    const answer = { digits: made.displayableFingerprint().toString(), scannable: b64(scannable.toBuffer()) };
    if (scanned) {
      answer.equal = scannable.compare(S.ScannableFingerprint._fromBuffer(bytesOf(scanned)));
    }
    return answer;
  },

  async decrypt({ peer, type, body }) {
    let text;
    if (type === 'pkmsg') {
      const message = S.PreKeySignalMessage.deserialize(bytesOf(body));
      text = await S.signalDecryptPreKey(message, address(peer), sessions, identities, preKeys, signedPreKeys, kyber);
    } else {
      const message = S.SignalMessage.deserialize(bytesOf(body));
      text = await S.signalDecrypt(message, address(peer), sessions, identities);
    }
    return { text: b64(text), usedPreKeys: preKeys.removed };
  },
};

(async () => {
  for await (const line of readline.createInterface({ input: process.stdin, crlfDelay: Infinity })) {
    const request = JSON.parse(line);
    let answer;
    try {
      answer = await operations[request.op](request);
    } catch (error) {
      const code = error && error.code !== undefined ? S.ErrorCode && S.ErrorCode[error.code] : undefined;
      answer = { error: code || (error && error.name) || 'Error', detail: String((error && error.message) || error) };
    }
    process.stdout.write(JSON.stringify(answer) + '\n');
  }
})();
