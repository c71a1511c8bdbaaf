package kms;

import static org.junit.jupiter.api.Assertions.assertEquals;

import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** {@code kms-plugin check-config} takes a certificate if and only if CredHub's client does. */
class CertificatesTest {
  @TempDir
  Path directory;

  @ParameterizedTest(name = "{0}: server key {1}, CA key {2}, {3}, {4}, host {5}")
  @CsvSource(delimiter = '|', textBlock = """
    # taken | server key     | CA key         | digest   | extension of the server's           | host
    true    | EC:P-256       | EC:P-256       | sha256   |                                     | kms.test
    true    | EC:P-384       | EC:P-384       | sha384   |                                     | kms.test
    true    | EC:P-256       | EC:P-521       | sha512   |                                     | kms.test
    true    | RSA:2048       | RSA:4096       | sha256   | keyUsage=critical,digitalSignature  | kms.test
    true    | EC:P-256       | RSA-PSS:2048   | sha256   |                                     | KMS.test
    true    | EC:P-256       | EC:P-256       | sha256   | extendedKeyUsage=anyExtendedKeyUsage | kms.test
    true    | EC:P-256       | EC:P-256       | sha256   | extendedKeyUsage=nsSGC              | kms.test
    false   | EC:P-521       | EC:P-256       | sha256   |                                     | kms.test
    false   | EC:P-224       | EC:P-256       | sha256   |                                     | kms.test
    false   | EC:secp256k1   | EC:P-256       | sha256   |                                     | kms.test
    false   | EC:brainpoolP256r1 | EC:P-256   | sha256   |                                     | kms.test
    false   | ED25519        | EC:P-256       | sha256   |                                     | kms.test
    false   | ED448          | EC:P-256       | sha256   |                                     | kms.test
    false   | RSA-PSS:2048   | EC:P-256       | sha256   |                                     | kms.test
    false   | EC:P-256       | ED25519        |          |                                     | kms.test
    false   | EC:P-256       | EC:brainpoolP256r1 | sha256 |                                   | kms.test
    false   | EC:P-256       | EC:secp256k1   | sha256   |                                     | kms.test
    false   | EC:P-256       | EC:P-256       | sha3-256 |                                     | kms.test
    false   | RSA:2048       | EC:P-256       | sha256   | keyUsage=critical,keyEncipherment   | kms.test
    false   | EC:P-256       | EC:P-256       | sha256   | extendedKeyUsage=clientAuth         | kms.test
    false   | EC:P-256       | EC:P-256       | sha256   | 1.2.3.4=critical,ASN1:UTF8String:x  | kms.test
    false   | EC:P-256       | EC:P-256       | sha256   |                                     | kms_plugin.test
    """)
  void isTakenOrRefusedByBoth(final boolean taken, final String serverKey, final String caKey, final String digest,
      final String extension, final String host) throws Exception {
    key("ca", caKey);
    key("server", serverKey);
    final String[] signing = digest == null ? new String[0] : new String[] {"-" + digest};
    openssl(signing, "req", "-x509", "-key", "ca.key", "-subj", "/CN=ca", "-days", "2", "-out", "ca.crt");
    openssl(new String[0], "req", "-new", "-key", "server.key", "-subj", "/CN=server", "-out", "server.csr");
    write("server.ext", "subjectAltName=DNS:" + host + "\n" + (extension == null ? "" : extension + "\n"));
    openssl(signing, "x509", "-req", "-in", "server.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial",
      "-days", "60", "-extfile", "server.ext", "-out", "server.crt");
    agree(taken, host);
  }

  /** A CA was renewed with its old key, and the file has both. */
  @Test
  void bothTakeARenewedCaBehindItsExpiredOne() throws Exception {
    key("ca", "EC:P-256");
    key("server", "EC:P-256");
    openssl(new String[0], "req", "-x509", "-key", "ca.key", "-subj", "/CN=ca", "-days", "90", "-out", "new.crt");
    ca("20200101000000Z", "20210101000000Z");
    write("ca.crt", Files.readString(file("old.crt")) + Files.readString(file("new.crt")));
    openssl(new String[0], "req", "-new", "-key", "server.key", "-subj", "/CN=server", "-out", "server.csr");
    write("server.ext", "subjectAltName=DNS:kms.test\n");
    openssl(new String[0], "x509", "-req", "-in", "server.csr", "-CA", "new.crt", "-CAkey", "ca.key", "-CAcreateserial",
      "-days", "60", "-extfile", "server.ext", "-out", "server.crt");
    agree(true, "kms.test");
  }

  @ParameterizedTest(name = "from {0} to {1}")
  @CsvSource({"20200101000000Z, 20210101000000Z", "20990101000000Z, 21000101000000Z"})
  void bothTakeACaWhateverItsDates(final String from, final String to) throws Exception {
    key("ca", "EC:P-256");
    ca(from, to);
    Files.copy(file("old.crt"), file("ca.crt"));
    server("/CN=server", "subjectAltName=DNS:kms.test\n");
    agree(true, "kms.test");
  }

  @ParameterizedTest(name = "{0}: subject {1}, {2}, host {3}")
  @CsvSource(delimiter = '|', textBlock = """
    true    | kms.test       |                                     | kms.test
    true    | kms.test       | subjectAltName=IP:10.0.0.1          | kms.test
    true    | x              | subjectAltName=DNS:kms.test,IP:10.0.0.1 | kms.test
    false   | kms.test       | subjectAltName=DNS:other.test       | kms.test
    true    | *.internal     |                                     | kms.internal
    true    | x              | subjectAltName=DNS:*.internal       | kms.internal
    true    | x              | subjectAltName=DNS:kms*.*.internal  | kms-1.credhub.internal
    true    | x              | subjectAltName=DNS:*s-*n.a.internal | kms-plugin.a.internal
    false   | x              | subjectAltName=DNS:*.internal       | kms.a.internal
    false   | x              | subjectAltName=DNS:kms.*            | kms.internal
    false   | x              | subjectAltName=DNS:k*p.a.internal   | kms.a.internal
    """)
  void bothReadTheSameNames(final boolean taken, final String subject, final String names, final String host)
      throws Exception {
    key("ca", "EC:P-256");
    openssl(new String[0], "req", "-x509", "-key", "ca.key", "-subj", "/CN=ca", "-days", "90", "-out", "ca.crt");
    Files.copy(file("ca.crt"), file("old.crt"));
    server("/CN=" + subject, names == null ? "basicConstraints=CA:FALSE\n" : names + "\n");
    agree(taken, host);
  }

  /** Signed by old.crt. */
  private void server(final String subject, final String extensions) throws Exception {
    key("server", "EC:P-256");
    openssl(new String[0], "req", "-new", "-key", "server.key", "-subj", subject, "-out", "server.csr");
    write("server.ext", extensions);
    openssl(new String[0], "x509", "-req", "-in", "server.csr", "-CA", "old.crt", "-CAkey", "ca.key", "-CAcreateserial",
      "-days", "60", "-extfile", "server.ext", "-out", "server.crt");
  }

  /** Makes old.crt of ca.key, valid at these times. */
  private void ca(final String from, final String to) throws Exception {
    openssl(new String[0], "req", "-new", "-key", "ca.key", "-subj", "/CN=ca", "-out", "old.csr");
    write("old.cnf", """
      [ca]
      default_ca = it
      [it]
      database = index
      new_certs_dir = .
      rand_serial = yes
      default_md = sha256
      policy = any
      x509_extensions = ext
      [any]
      commonName = supplied
      [ext]
      basicConstraints = critical,CA:TRUE
      """);
    write("index", "");
    openssl(new String[0], "ca", "-batch", "-notext", "-config", "old.cnf", "-in", "old.csr", "-selfsign", "-keyfile",
      "ca.key", "-startdate", from, "-enddate", to, "-out", "old.crt");
  }

  private void agree(final boolean taken, final String host) throws Exception {
    assertEquals(taken, clientTakes(host), "the client");
    assertEquals(taken, checkTakes(host), "check-config");
  }

  private boolean clientTakes(final String host) throws Exception {
    final Path socket = file("tls.sock");
    final Process server = node(Path.of("src/test/resources/tls-server.cjs").toAbsolutePath().toString(),
      directory.toString());
    try {
      while (!Files.exists(socket)) {
        if (!server.isAlive()) {
          throw new IllegalStateException("the server ended: " + Files.readString(file("output")));
        }
        Thread.sleep(20);
      }
      try (var client = new CredHubClient(socket, Files.readString(file("ca.crt")), host)) {
        client.encrypt(new byte[1]);
        throw new IllegalStateException("answered");
      } catch (final StatusRuntimeException e) {
        return e.getStatus().getCode() == Status.Code.UNIMPLEMENTED;
      }
    } finally {
      server.destroyForcibly().waitFor();
    }
  }

  private boolean checkTakes(final String host) throws Exception {
    write("module.so", "");
    write("kms-plugin.yml", """
      state_dir: state
      listeners:
        - name: credhub
          endpoint: kms.sock
          apis: [v1beta1]
          tls: { certificate: server.crt, private_key: server.key, ca: ca.crt, host: %s }
      token: { module: module.so, partition: { label: credhub }, login: none }
      keys: [{ label: a, state: active }]
      """.formatted(host));
    final Process check = node(Plugin.bundle().toString(), "check-config", "--config", file("kms-plugin.yml").toString());
    if (!check.waitFor(60, TimeUnit.SECONDS)) {
      check.destroyForcibly();
      throw new IllegalStateException("check-config does not end");
    }
    final int status = check.exitValue();
    if (status != 0 && status != 78) {
      throw new IllegalStateException("check-config ended with " + status + ": " + Files.readString(file("output")));
    }
    return status == 0;
  }

  private Process node(final String... arguments) throws Exception {
    final var command = new ArrayList<>(List.of(Plugin.node().toString()));
    command.addAll(List.of(arguments));
    return new ProcessBuilder(command).redirectErrorStream(true)
      .redirectOutput(ProcessBuilder.Redirect.appendTo(file("output").toFile())).start();
  }

  /** A key of the kind {@code ALGORITHM} or {@code ALGORITHM:CURVE-OR-BITS}. */
  private void key(final String name, final String kind) throws Exception {
    final String[] parts = kind.split(":");
    final var options = new ArrayList<>(List.of("-algorithm", parts[0], "-out", name + ".key"));
    if (parts.length > 1) {
      options.addAll(List.of("-pkeyopt", (parts[0].equals("EC") ? "ec_paramgen_curve:" : "rsa_keygen_bits:") + parts[1]));
    }
    openssl(options.toArray(String[]::new), "genpkey");
  }

  private Path file(final String name) {
    return directory.resolve(name);
  }

  private void write(final String name, final String text) throws Exception {
    Files.writeString(file(name), text);
  }

  private void openssl(final String[] more, final String... arguments) throws Exception {
    final var command = new ArrayList<>(List.of("openssl"));
    command.addAll(List.of(arguments));
    command.addAll(List.of(more));
    Commands.run(directory, Map.of(), command);
  }
}
