package kms;

import com.google.protobuf.ByteString;
import io.grpc.ManagedChannel;
import io.grpc.netty.GrpcSslContexts;
import io.grpc.netty.NettyChannelBuilder;
import io.netty.channel.EventLoopGroup;
import io.netty.channel.MultiThreadIoEventLoopGroup;
import io.netty.channel.epoll.EpollDomainSocketChannel;
import io.netty.channel.epoll.EpollIoHandler;
import io.netty.channel.unix.DomainSocketAddress;
import java.io.ByteArrayInputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.concurrent.TimeUnit;
import v1beta1.KeyManagementServiceGrpc;
import v1beta1.KeyManagementServiceGrpc.KeyManagementServiceBlockingStub;
import v1beta1.V1Beta1.DecryptRequest;
import v1beta1.V1Beta1.EncryptRequest;

/**
 * The plugin's client with every setting of CredHub's: Netty over epoll on a Unix socket, TLS that trusts one CA and no
 * client certificate, the authority replaced by the host name, keep-alive, no deadline, no version, and never Version.
 */
final class CredHubClient implements AutoCloseable {
  static final long KEEP_ALIVE_SECONDS = 20;

  final ManagedChannel channel;
  private final EventLoopGroup group = new MultiThreadIoEventLoopGroup(EpollIoHandler.newFactory());
  private final KeyManagementServiceBlockingStub stub;

  CredHubClient(final Path endpoint, final String ca, final String host) {
    this(endpoint, ca, host, KEEP_ALIVE_SECONDS);
  }

  CredHubClient(final Path endpoint, final String ca, final String host, final long keepAliveSeconds) {
    try {
      channel = NettyChannelBuilder.forAddress(new DomainSocketAddress(endpoint.toString()))
        .eventLoopGroup(group)
        .channelType(EpollDomainSocketChannel.class)
        .keepAliveTime(keepAliveSeconds, TimeUnit.SECONDS)
        .useTransportSecurity()
        .sslContext(GrpcSslContexts.forClient()
          .trustManager(new ByteArrayInputStream(ca.getBytes(StandardCharsets.UTF_8)))
          .build())
        .overrideAuthority(host)
        .build();
    } catch (final javax.net.ssl.SSLException e) {
      throw new IllegalArgumentException(e);
    }
    stub = KeyManagementServiceGrpc.newBlockingStub(channel);
  }

  byte[] encrypt(final byte[] value) {
    final var request = EncryptRequest.newBuilder().setPlain(ByteString.copyFrom(value)).build();
    return stub.encrypt(request).getCipher().toByteArray();
  }

  byte[] decrypt(final byte[] stored) {
    final var request = DecryptRequest.newBuilder().setCipher(ByteString.copyFrom(stored)).build();
    return stub.decrypt(request).getPlain().toByteArray();
  }

  @Override
  public void close() throws InterruptedException {
    channel.shutdownNow();
    channel.awaitTermination(10, TimeUnit.SECONDS);
    group.shutdownGracefully(0, 1, TimeUnit.SECONDS);
  }
}
