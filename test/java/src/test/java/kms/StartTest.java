package kms;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import io.grpc.Status;
import java.nio.charset.StandardCharsets;
import java.util.HexFormat;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** CredHub's start and key rotation against the plugin, step by step as operators take them. */
@Timeout(120)
class StartTest {
  private static final byte[] PASSWORD = "twenty bytes exactly".getBytes(StandardCharsets.UTF_8);
  private static final byte[] CHAIN = new byte[30_000];

  private Plugin plugin;
  private final CredHub credhub = new CredHub();

  @BeforeEach
  void makeToken() throws Exception {
    plugin = new Plugin();
    plugin.token.newKey("first");
    plugin.token.newKey("second");
  }

  @AfterEach
  void stop() throws Exception {
    plugin.close();
  }

  @Test
  void movesFromTheInternalProviderAndStartsAgain() throws Exception {
    final CredHub.Key internal = Keys.internal();
    credhub.addDeprecatedCanary(Keys.internal());
    credhub.start(internal);
    credhub.set("password", PASSWORD);
    credhub.set("chain", CHAIN);
    assertEquals(List.of(80, 144), credhub.canaries.stream().map(canary -> canary.stored().length).toList());

    plugin.start("{ label: first, state: active }");
    try (var client = plugin.client()) {
      credhub.start(Keys.plugin(client), internal);
      assertEquals(3, credhub.canaries.size(), "a canary for the plugin's key");
      assertArrayEquals(PASSWORD, credhub.get("password"), "before it has moved");
      credhub.rotate();
      assertEquals(2, credhub.canaries.size(), "the internal key's canary is gone");
      assertCredentials();
    }

    plugin.stop();
    plugin.start("{ label: first, state: active }");
    try (var client = plugin.client()) {
      // The internal key has left the list; the canary of a key that nobody has any more has stayed.
      credhub.start(Keys.plugin(client));
      assertEquals(2, credhub.canaries.size(), "no new canary");
      assertCredentials();
    }
  }

  @Test
  void keepsEverythingWhileTheHsmKeyRotates() throws Exception {
    plugin.start("{ label: first, state: active }", "{ label: second, state: decrypt }");
    try (var client = plugin.client()) {
      credhub.start(Keys.plugin(client));
      credhub.set("password", PASSWORD);
    }
    plugin.stop();
    plugin.start("{ label: first, state: decrypt }", "{ label: second, state: active }");
    try (var client = plugin.client()) {
      credhub.start(Keys.plugin(client));
      assertEquals(1, credhub.canaries.size(), "the canary stays under the key of its day");
      credhub.set("chain", CHAIN);
      assertCredentials();
      assertEquals(2, credhub.credentials.values().stream().map(row -> keyId(row.stored())).distinct().count());
    }
  }

  /** The operator forgets that the canary is still under the first key: CredHub must not start as if nothing had been there. */
  @Test
  void stopsWhenTheOldKeyHasLeftTheList() throws Exception {
    writeUnderTheFirstKey();
    plugin.start("{ label: second, state: active }");
    try (var client = plugin.client()) {
      final var stopped = assertThrows(CredHub.IncorrectKey.class, () -> credhub.start(Keys.plugin(client)));
      assertEquals(Status.Code.FAILED_PRECONDITION, Status.fromThrowable(stopped).getCode());
    }
    assertEquals(1, credhub.canaries.size(), "no new canary");

    // The key comes back into the list, and so does everything else.
    plugin.stop();
    plugin.start("{ label: first, state: decrypt }", "{ label: second, state: active }");
    try (var client = plugin.client()) {
      credhub.start(Keys.plugin(client));
      assertArrayEquals(PASSWORD, credhub.get("password"));
    }
  }

  @Test
  void stopsWhenAListedKeyIsNotOnTheToken() throws Exception {
    writeUnderTheFirstKey();
    plugin.token.destroyKey("first");
    plugin.start("{ label: first, state: decrypt }", "{ label: second, state: active }");
    try (var client = plugin.client()) {
      // A new connection would wait for the key; one that has been served does not.
      client.encrypt(PASSWORD);
      final var stopped = assertThrows(CredHub.IncorrectKey.class, () -> credhub.start(Keys.plugin(client)));
      assertEquals(Status.Code.FAILED_PRECONDITION, Status.fromThrowable(stopped).getCode());
    }
    assertEquals(1, credhub.canaries.size(), "no new canary");
  }

  /** Only the owner's word that the key is gone lets CredHub begin anew. */
  @Test
  void makesANewCanaryWhenTheOldKeyIsRetired() throws Exception {
    writeUnderTheFirstKey();
    plugin.start(List.of("{ label: second, state: active }"), List.of(keyId(credhub.canaries.get(0).stored())));
    try (var client = plugin.client()) {
      credhub.start(Keys.plugin(client));
      assertEquals(2, credhub.canaries.size());
    }
  }

  /** The old key may leave after a round trip through the internal provider, which makes a new canary. */
  @Test
  void theOldKeyMayLeaveAfterARoundTrip() throws Exception {
    writeUnderTheFirstKey();
    final CredHub.Key internal = Keys.internal();
    plugin.start("{ label: first, state: decrypt }", "{ label: second, state: active }");
    try (var client = plugin.client()) {
      final CredHub.Key key = Keys.plugin(client);
      credhub.start(internal, key);
      credhub.rotate();
      credhub.start(key, internal);
      credhub.rotate();
    }
    plugin.stop();
    plugin.start("{ label: second, state: active }");
    try (var client = plugin.client()) {
      credhub.start(Keys.plugin(client));
      assertEquals(1, credhub.canaries.size(), "no new canary");
      assertArrayEquals(PASSWORD, credhub.get("password"));
    }
  }

  /** A password and a canary under the first key; the plugin is stopped. */
  private void writeUnderTheFirstKey() throws Exception {
    plugin.start("{ label: first, state: active }");
    try (var client = plugin.client()) {
      credhub.start(Keys.plugin(client));
      credhub.set("password", PASSWORD);
    }
    plugin.stop();
  }

  private void assertCredentials() throws Exception {
    assertArrayEquals(PASSWORD, credhub.get("password"));
    assertArrayEquals(CHAIN, credhub.get("chain"));
  }

  /** Bytes 10 to 25 of a ciphertext name its key. */
  private static String keyId(final byte[] stored) {
    return HexFormat.of().formatHex(Arrays.copyOfRange(stored, 10, 26));
  }
}
