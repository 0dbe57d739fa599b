// An FTP server on loopback over a folder, until its standard input ends. Settings as JSON in the first argument:
// {root, username, password, key, cert, blacklist}; with key and cert (PEM) it demands explicit TLS, and that data
// connections resume the session of the control connection. Prints its port.
const { FtpSrv } = require("ftp-srv");
const auth = require("ftp-srv/src/commands/registration/auth");
const net = require("node:net");
const tls = require("node:tls");

// Two of the server's habits are not those of others. It reads on between its consent to TLS and the handshake, so that
// a quick client's handshake is a command to it; and it announces a transfer only behind the data connection's
// handshake, which clients begin behind the announcement.
const settings = JSON.parse(process.argv[2]);
const context = settings.key && tls.createSecureContext({ key: settings.key, cert: settings.cert });
auth.handler = function () {
  if (!this.server.options.tls) return this.reply(502);
  const plain = this.commandSocket;
  plain.write("234 Honored\r\n");
  const secured = new tls.TLSSocket(plain, { isServer: true, secureContext: context });
  for (const event of ["data", "timeout", "end", "close", "drain", "error"]) {
    secured.on(event, (...given) => plain.emit(event, ...given));
  }
  this.commandSocket = secured;
  this.secure = true;
  return Promise.resolve();
};
tls.createServer = (options, taken) =>
  net.createServer((plain) => {
    const secured = new tls.TLSSocket(plain, { isServer: true, secureContext: context });
    secured.connected = true;
    secured.on("secure", () => secured.isSessionReused() || secured.destroy());
    taken(secured);
  });

const quiet = { trace() {}, debug() {}, info() {}, warn() {}, error() {}, fatal() {}, child: () => quiet };
const probe = net.createServer().listen(0, "127.0.0.1", () => {
  const { port } = probe.address();
  probe.close(() => {
    const server = new FtpSrv({
      url: `ftp://127.0.0.1:${port}`,
      pasv_url: "127.0.0.1",
      // Each looks for free ones on its own: two in one range would take them from each other.
      pasv_min: 20000 + (process.pid % 60) * 200,
      log: quiet,
      tls: settings.key ? { key: settings.key, cert: settings.cert } : false,
      blacklist: settings.blacklist || [],
    });
    server.on("client-error", () => {});
    server.on("login", ({ connection, username, password }, resolve, reject) => {
      if (settings.key && !connection.secure) return reject(new Error("encryption is required"));
      if (username === settings.username && password === settings.password) return resolve({ root: settings.root });
      return reject(new Error("wrong name or password"));
    });
    server.listen().then(() => process.stdout.write(`${port}\n`));
  });
});
process.stdin.on("end", () => process.exit(0)).resume();
