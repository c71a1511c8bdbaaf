package kms;

import java.security.GeneralSecurityException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import javax.crypto.AEADBadTagException;

/**
 * What CredHub does with its keys when it starts, and what it keeps in its database: enough of it to see what a plugin's
 * answers lead to. Each {@link #start} is a new life of CredHub on the same database.
 */
final class CredHub {
  /** A key that CredHub is configured with: the internal provider's, or the plugin's single one. */
  interface Key {
    byte[][] encrypt(byte[] value) throws Exception;

    /** @throws AEADBadTagException if the value belongs to another key: the only failure that CredHub expects */
    byte[] decrypt(byte[] stored, byte[] nonce) throws Exception;
  }

  /** A row of CredHub's table of canaries, or of credentials: which canary's key it is under, ciphertext and nonce. */
  record Row(UUID key, byte[] stored, byte[] nonce) {}

  /** CredHub's start ended with the exception that its own start ends with. */
  static final class IncorrectKey extends Exception {
    private static final long serialVersionUID = 1;

    IncorrectKey(final Exception cause) {
      super(cause);
    }
  }

  private static final byte[] CANARY = new byte[128];
  private static final byte[] DEPRECATED_CANARY = new byte[64];

  final List<Row> canaries = new ArrayList<>();
  final Map<String, Row> credentials = new HashMap<>();
  private final Map<UUID, Key> keys = new HashMap<>();
  private UUID active;

  /**
   * Tries every canary with every key, in order. A key is known by the first canary that it can read; an active key
   * that reads none gets a new one.
   */
  void start(final Key activeKey, final Key... others) throws Exception {
    keys.clear();
    active = null;
    final var configured = new ArrayList<Key>(Arrays.asList(others));
    configured.add(0, activeKey);
    final var found = List.copyOf(canaries);
    for (final Key key : configured) {
      UUID id = null;
      for (final Row canary : found) {
        if (matches(key, canary)) {
          id = canary.key();
          break;
        }
      }
      if (id == null && key != activeKey) {
        continue;
      }
      if (id == null) {
        id = addCanary(key, CANARY);
      }
      if (key == activeKey) {
        active = id;
      }
      keys.put(id, key);
    }
  }

  UUID addCanary(final Key key, final byte[] value) throws Exception {
    final UUID id = UUID.randomUUID();
    final byte[][] encrypted = key.encrypt(value);
    canaries.add(new Row(id, encrypted[0], encrypted[1]));
    return id;
  }

  UUID addDeprecatedCanary(final Key key) throws Exception {
    return addCanary(key, DEPRECATED_CANARY);
  }

  void set(final String name, final byte[] value) throws Exception {
    final byte[][] encrypted = keys.get(active).encrypt(value);
    credentials.put(name, new Row(active, encrypted[0], encrypted[1]));
  }

  byte[] get(final String name) throws Exception {
    final Row row = credentials.get(name);
    final Key key = keys.get(row.key());
    if (key == null) {
      throw new GeneralSecurityException("could not be accessed with the provided encryption keys");
    }
    return key.decrypt(row.stored(), row.nonce());
  }

  /** Moves every value of a configured key that is not active to the active one, then forgets the canaries of the others. */
  void rotate() throws Exception {
    for (final String name : List.copyOf(credentials.keySet())) {
      final UUID key = credentials.get(name).key();
      if (!key.equals(active) && keys.containsKey(key)) {
        set(name, get(name));
      }
    }
    canaries.removeIf(canary -> keys.containsKey(canary.key()) && !canary.key().equals(active));
  }

  private static boolean matches(final Key key, final Row canary) throws IncorrectKey {
    try {
      final byte[] value = key.decrypt(canary.stored(), canary.nonce());
      return Arrays.equals(value, CANARY) || Arrays.equals(value, DEPRECATED_CANARY);
    } catch (final AEADBadTagException notThisKey) {
      return false;
    } catch (final Exception e) {
      throw new IncorrectKey(e);
    }
  }
}
