package kms;

import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;

/** Other programs that tests need. */
final class Commands {
  private Commands() {}

  /** Runs one to its end; fails with what it printed when it fails. */
  static void run(final Path directory, final Map<String, String> environment, final List<String> command) throws Exception {
    final Path output = directory.resolve("command.out");
    final var builder = new ProcessBuilder(command).directory(directory.toFile())
      .redirectErrorStream(true).redirectOutput(output.toFile());
    builder.environment().putAll(environment);
    final Process process = builder.start();
    if (!process.waitFor(30, TimeUnit.SECONDS)) {
      process.destroyForcibly();
      throw new IllegalStateException(command.get(0) + " does not end");
    }
    if (process.exitValue() != 0) {
      throw new IllegalStateException(command.get(0) + ": " + java.nio.file.Files.readString(output));
    }
  }
}
