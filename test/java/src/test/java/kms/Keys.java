package kms;

import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import java.security.GeneralSecurityException;
import java.security.SecureRandom;
import javax.crypto.AEADBadTagException;
import javax.crypto.Cipher;
import javax.crypto.SecretKey;
import javax.crypto.spec.GCMParameterSpec;
import javax.crypto.spec.SecretKeySpec;

/** CredHub's two kinds of keys. */
final class Keys {
  private Keys() {}

  /** The plugin's key. Nonces stay empty; INVALID_ARGUMENT, and nothing else, means that the value is not this key's. */
  static CredHub.Key plugin(final CredHubClient client) {
    return new CredHub.Key() {
      @Override
      public byte[][] encrypt(final byte[] value) {
        return new byte[][] {client.encrypt(value), new byte[0]};
      }

      @Override
      public byte[] decrypt(final byte[] stored, final byte[] nonce) throws AEADBadTagException {
        try {
          return client.decrypt(stored);
        } catch (final StatusRuntimeException e) {
          if (e.getStatus().getCode() == Status.Code.INVALID_ARGUMENT) {
            throw new AEADBadTagException(e.getMessage());
          }
          throw e;
        }
      }
    };
  }

  /** The internal provider's key: AES-256-GCM in CredHub itself, the nonce in a column of its own. */
  static CredHub.Key internal() {
    final byte[] raw = new byte[32];
    final SecureRandom random = new SecureRandom();
    random.nextBytes(raw);
    final SecretKey key = new SecretKeySpec(raw, "AES");
    return new CredHub.Key() {
      @Override
      public byte[][] encrypt(final byte[] value) throws GeneralSecurityException {
        final byte[] nonce = new byte[12];
        random.nextBytes(nonce);
        return new byte[][] {gcm(Cipher.ENCRYPT_MODE, key, nonce).doFinal(value), nonce};
      }

      @Override
      public byte[] decrypt(final byte[] stored, final byte[] nonce) throws GeneralSecurityException {
        // The plugin's canaries have no nonce, and no salt to derive a key from: CredHub skips them.
        if (nonce.length == 0) {
          throw new AEADBadTagException("not this key");
        }
        return gcm(Cipher.DECRYPT_MODE, key, nonce).doFinal(stored);
      }
    };
  }

  private static Cipher gcm(final int mode, final SecretKey key, final byte[] nonce) throws GeneralSecurityException {
    final Cipher cipher = Cipher.getInstance("AES/GCM/NoPadding");
    cipher.init(mode, key, new GCMParameterSpec(128, nonce));
    return cipher;
  }
}
