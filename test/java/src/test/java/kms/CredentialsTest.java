package kms;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import java.nio.file.Files;
import java.security.SecureRandom;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.concurrent.Callable;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

/** What CredHub stores, through a client like CredHub's. The time limit is for a call that hangs: none has a deadline. */
@Timeout(120)
class CredentialsTest {
  /** CredHub's MySQL column takes 65,535 bytes, and its values up to 65,000. */
  private static final int MOST_ADDED = 535;
  private static final SecureRandom RANDOM = new SecureRandom();
  private static Plugin plugin;
  private static CredHubClient client;

  @BeforeAll
  static void start() throws Exception {
    plugin = new Plugin();
    plugin.token.newKey("a");
    plugin.start("{ label: a, state: active }");
    client = plugin.client();
  }

  @AfterAll
  static void stop() throws Exception {
    client.close();
    plugin.close();
  }

  @ParameterizedTest
  @ValueSource(ints = {0, 1, 2, 15, 16, 17, 20, 32, 64, 128, 1_000, 7_000, 20_480, 32_768, 50_000, 65_000})
  void everySizeOfACredentialComesBack(final int size) {
    final byte[] value = random(size);
    final byte[] stored = client.encrypt(value);
    assertTrue(stored.length > size && stored.length <= size + MOST_ADDED, size + " bytes became " + stored.length);
    assertArrayEquals(value, client.decrypt(stored));
  }

  @ParameterizedTest
  @ValueSource(ints = {64, 128})
  void canariesComeBack(final int zeros) {
    assertArrayEquals(new byte[zeros], client.decrypt(client.encrypt(new byte[zeros])));
  }

  @Test
  void theSameValueIsNeverStoredTwiceAlike() {
    assertTrue(!Arrays.equals(client.encrypt(new byte[128]), client.encrypt(new byte[128])));
  }

  static int[] internalCanaries() {
    final int[] lengths = new int[200];
    Arrays.fill(lengths, 0, 100, 80);
    Arrays.fill(lengths, 100, 200, 144);
    return lengths;
  }

  /** The internal provider's canaries: AES-GCM output of 64 and 128 zero bytes. Anything but this status stops CredHub's start. */
  @ParameterizedTest
  @MethodSource("internalCanaries")
  void bytesOfSomeoneElseAreNotThisKeys(final int length) {
    assertEquals(Status.Code.INVALID_ARGUMENT, refusal(() -> client.decrypt(random(length))));
  }

  @Test
  void everyTruncationIsRefused() {
    final byte[] stored = client.encrypt(random(20));
    for (int length = 0; length < stored.length; length++) {
      final byte[] cut = Arrays.copyOf(stored, length);
      assertEquals(Status.Code.INVALID_ARGUMENT, refusal(() -> client.decrypt(cut)), length + " bytes");
    }
  }

  @Test
  void tamperedValuesAreRefused() {
    final byte[] stored = client.encrypt(random(20));
    for (final int at : new int[] {26, 38, stored.length - 1}) {
      final byte[] tampered = stored.clone();
      tampered[at] ^= 1;
      assertEquals(Status.Code.INVALID_ARGUMENT, refusal(() -> client.decrypt(tampered)), "byte " + at);
    }
  }

  /** CredHub has at most about ten calls under way, all on one connection. */
  @Test
  void tenCallsAtOnceOnOneConnection() throws Exception {
    final var threads = Executors.newFixedThreadPool(10);
    try {
      final var done = new ArrayList<Future<Void>>();
      for (int thread = 0; thread < 10; thread++) {
        final Callable<Void> work = () -> {
          for (int round = 0; round < 30; round++) {
            final byte[] value = random(RANDOM.nextInt(20_000));
            assertArrayEquals(value, client.decrypt(client.encrypt(value)));
          }
          return null;
        };
        done.add(threads.submit(work));
      }
      for (final Future<Void> one : done) {
        one.get();
      }
    } finally {
      threads.shutdownNow();
    }
  }

  /** One value too large for the plugin, or for a gRPC message, costs that call alone and not the connection. */
  @ParameterizedTest
  @ValueSource(ints = {(1 << 20) + 1, 5 << 20})
  void tooLargeIsAnAnswerAndNotALostConnection(final int size) {
    assertEquals(Status.Code.RESOURCE_EXHAUSTED, refusal(() -> client.encrypt(new byte[size])));
    final byte[] value = random(20);
    assertArrayEquals(value, client.decrypt(client.encrypt(value)));
  }

  @Test
  void theCertificateMustCarryTheHost() throws Exception {
    try (var other = new CredHubClient(plugin.socket(), Files.readString(plugin.certificates.ca), "other.internal")) {
      assertEquals(Status.Code.UNAVAILABLE, refusal(() -> other.encrypt(new byte[1])));
    }
  }

  private static byte[] random(final int size) {
    final byte[] bytes = new byte[size];
    RANDOM.nextBytes(bytes);
    return bytes;
  }

  private static Status.Code refusal(final org.junit.jupiter.api.function.Executable call) {
    return assertThrows(StatusRuntimeException.class, call).getStatus().getCode();
  }
}
