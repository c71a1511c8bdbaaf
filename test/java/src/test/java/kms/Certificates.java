package kms;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;

/** A CA, and a server certificate of its for one host name, made with openssl in a directory. */
final class Certificates {
  final Path ca;
  final Path certificate;
  final Path privateKey;

  Certificates(final Path directory, final String host) throws Exception {
    ca = directory.resolve("ca.crt");
    certificate = directory.resolve("server.crt");
    privateKey = directory.resolve("server.key");
    final Path caKey = directory.resolve("ca.key");
    final Path request = directory.resolve("server.csr");
    final Path extensions = Files.writeString(directory.resolve("server.ext"), "subjectAltName = DNS:" + host + "\n");
    openssl(directory, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
      "-subj", "/CN=test CA", "-keyout", caKey.toString(), "-out", ca.toString());
    openssl(directory, "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
      "-subj", "/CN=" + host, "-keyout", privateKey.toString(), "-out", request.toString());
    openssl(directory, "x509", "-req", "-in", request.toString(), "-CA", ca.toString(), "-CAkey", caKey.toString(),
      "-CAcreateserial", "-days", "2", "-extfile", extensions.toString(), "-out", certificate.toString());
  }

  private static void openssl(final Path directory, final String... arguments) throws Exception {
    final var command = new java.util.ArrayList<>(List.of("openssl"));
    command.addAll(List.of(arguments));
    Commands.run(directory, Map.of(), command);
  }
}
