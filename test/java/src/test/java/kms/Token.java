package kms;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.SecureRandom;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Collectors;
import java.util.stream.IntStream;

/** A SoftHSM2 token of one test class, labelled "credhub", in a directory of its own. */
final class Token {
  private static final String PIN = "Zu8-Rpa-wq3";
  private static final List<String> MODULES = List.of(
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib64/softhsm/libsofthsm2.so");

  /** Short, since the sockets are in it. */
  final Path directory;
  private final Map<String, Path> objects = new HashMap<>();

  Token() throws Exception {
    directory = Files.createTempDirectory(Path.of("/tmp"), "kms-");
    Files.createDirectory(directory.resolve("tokens"));
    Files.writeString(configuration(), """
      directories.tokendir = %s
      objectstore.backend = file
      log.level = ERROR
      """.formatted(directory.resolve("tokens")));
    Files.writeString(directory.resolve("pin"), PIN);
    run("--init-token", "--free", "--label", "credhub", "--so-pin", "so-" + PIN, "--pin", PIN);
  }

  /** Makes an AES-256 key. softhsm2-util reads it as a line of text: it must hold neither a zero byte nor a line feed. */
  void newKey(final String label) throws Exception {
    final byte[] random = new byte[48];
    do {
      new SecureRandom().nextBytes(random);
    } while (IntStream.range(0, 32).anyMatch(at -> random[at] == 0 || random[at] == '\n'));
    final Path file = Files.write(directory.resolve("import"), Arrays.copyOf(random, 32));
    final String id = HexFormat.of().formatHex(random, 32, 48);
    final Set<Path> before = objectFiles();
    run("--import", file.toString(), "--aes", "--token", "credhub", "--pin", PIN, "--label", label, "--id", id);
    Files.delete(file);
    objectFiles().stream().filter(object -> !before.contains(object)).forEach(object -> objects.put(label, object));
  }

  /** Removes a key for good. */
  void destroyKey(final String label) throws IOException {
    Files.delete(objects.get(label));
  }

  /** Hides the token from every process that starts from now on. */
  void away() throws IOException {
    Files.move(directory.resolve("tokens"), directory.resolve("away"));
    Files.createDirectory(directory.resolve("tokens"));
  }

  /** Undoes {@link #away()}. */
  void back() throws IOException {
    Files.delete(directory.resolve("tokens"));
    Files.move(directory.resolve("away"), directory.resolve("tokens"));
  }

  Path configuration() {
    return directory.resolve("softhsm2.conf");
  }

  static String module() {
    return MODULES.stream().filter(path -> Files.exists(Path.of(path))).findFirst()
      .orElseThrow(() -> new IllegalStateException("SoftHSM2's module is none of " + MODULES));
  }

  private Set<Path> objectFiles() throws IOException {
    try (var files = Files.walk(directory.resolve("tokens"))) {
      return files.filter(file -> file.toString().endsWith(".object")).collect(Collectors.toSet());
    }
  }

  private void run(final String... arguments) throws Exception {
    final var command = new ArrayList<>(List.of("softhsm2-util"));
    command.addAll(List.of(arguments));
    Commands.run(directory, Map.of("SOFTHSM2_CONF", configuration().toString()), command);
  }
}
