package kms;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;

import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import java.nio.file.Files;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** CredHub and the plugin start side by side, and the HSM may be the last to be there. */
@Timeout(120)
class OutageTest {
  private static final byte[] VALUE = new byte[128];

  /**
   * CredHub's first call waits for the HSM, for much longer than a call usually may: a failed start would leave CredHub
   * dead until someone restarts it. Its keep-alive pings, here the most frequent that the library allows, must not make
   * the server hang up meanwhile.
   */
  @Test
  void theFirstCallWaitsForTheHsm() throws Exception {
    try (var plugin = new Plugin()) {
      plugin.token.newKey("a");
      plugin.token.away();
      plugin.start("{ label: a, state: active }");
      try (var client = new CredHubClient(plugin.socket(), Files.readString(plugin.certificates.ca), Plugin.HOST, 10)) {
        final var first = CompletableFuture.supplyAsync(() -> client.encrypt(VALUE));
        Thread.sleep(TimeUnit.SECONDS.toMillis(35));
        assertFalse(first.isDone(), "the call has not waited");
        plugin.token.back();
        assertArrayEquals(VALUE, client.decrypt(first.get()));
      }
    }
  }

  /**
   * A client that has been served is told at once that the HSM is away, since CredHub's threads block on a call; one that
   * has just connected waits for it. When it is back both are served, by the connections that they have.
   */
  @Test
  void onlyAFirstCallWaitsForTheHsm() throws Exception {
    try (var plugin = new Plugin()) {
      plugin.token.newKey("a");
      plugin.start("{ label: a, state: active }");
      try (var served = plugin.client(); var newcomer = plugin.client()) {
        final byte[] stored = served.encrypt(VALUE);
        plugin.token.away();
        plugin.killTokenProcess();
        final var refused = assertThrows(StatusRuntimeException.class, () -> served.decrypt(stored));
        assertEquals(Status.Code.UNAVAILABLE, refused.getStatus().getCode());
        final var waiting = CompletableFuture.supplyAsync(() -> newcomer.decrypt(stored));
        assertThrows(StatusRuntimeException.class, () -> served.encrypt(VALUE));
        assertFalse(waiting.isDone(), "the newcomer's call has not waited");
        plugin.token.back();
        assertArrayEquals(VALUE, waiting.get());
        assertArrayEquals(VALUE, served.decrypt(stored));
      }
    }
  }

  /** A crash of the module costs nobody a call, not even those in flight. */
  @Test
  void nobodySeesTheModuleCrash() throws Exception {
    try (var plugin = new Plugin()) {
      plugin.token.newKey("a");
      plugin.start("{ label: a, state: active }");
      try (var client = plugin.client()) {
        client.encrypt(VALUE);
        final var rounds = new AtomicInteger();
        final var threads = Executors.newFixedThreadPool(10);
        final var done = IntStream.range(0, 10).mapToObj(thread -> CompletableFuture.runAsync(() -> {
          for (int round = 0; round < 100; round++) {
            assertArrayEquals(VALUE, client.decrypt(client.encrypt(VALUE)));
            rounds.incrementAndGet();
          }
        }, threads)).toList();
        while (rounds.get() < 200) {
          Thread.sleep(1);
        }
        plugin.killTokenProcess();
        for (final var one : done) {
          one.get();
        }
        threads.shutdown();
      }
    }
  }

  /** A restart of the plugin: the same client, without a restart of its own, goes on. */
  @Test
  void theClientOutlivesARestartOfThePlugin() throws Exception {
    try (var plugin = new Plugin()) {
      plugin.token.newKey("a");
      plugin.start("{ label: a, state: active }");
      try (var client = plugin.client()) {
        final byte[] stored = client.encrypt(VALUE);
        plugin.stop();
        plugin.start("{ label: a, state: active }");
        // The connection may be in its back-off, which a new call does not wait for: the channel says when it is over.
        for (int tries = 0; client.channel.getState(true) != io.grpc.ConnectivityState.READY && tries < 600; tries++) {
          Thread.sleep(100);
        }
        assertArrayEquals(VALUE, client.decrypt(stored));
      }
    }
  }
}
