//! The rest of Kafka's broker keys: known by name, type, default and mode, so that a change is
//! refused or taken as Kafka would and DescribeConfigs lists what tools expect. None has an effect.
//!
//! Keys that more can be said of stand in [`super::inert`]; a key that becomes honoured moves to
//! [`super::broker`].

use super::key::{Key, Kind};

const TLS: &str = "there is no TLS yet; a listener that asks for it is refused";
const LOGINS: &str = "there is no authentication yet; a listener that asks for SASL is refused";
const CLEANER: &str = "compaction reads batch by batch, and its table of keys grows as needed";
const BETWEEN_BROKERS: &str = "what brokers say to each other takes no settings yet";
const ONE_DIR: &str = "there is one data directory";
const TRANSACTIONS: &str = "a transaction ends in one step of the one log";
const JVM: &str = "Braid is not a Java program and loads no classes";
const QUOTAS: &str = "quotas are not built yet";
const NEW_GROUPS: &str = "only classic consumer groups are built yet";
const TIERED: &str = "tiered storage is not built yet";
const QUORUM: &str = "the metadata log keeps itself small";
const PURGED: &str = "waiting requests are purged as they are answered";
const PLAIN_VALUES: &str = "values are taken as they stand";

macro_rules! default {
    (null) => {
        None
    };
    ($text:literal) => {
        Some($text)
    };
}

macro_rules! foreign {
    ($($because:ident { $($kind:ident $name:literal = $default:tt $(.$with:ident($($to:expr),*))*;)+ })+) => {
        /// Kafka's other broker keys.
        pub(super) static FOREIGN: &[Key] = &[$($(
            Key::foreign($name, Kind::$kind, default!($default), $because)$(.$with($($to),*))*,
        )+)+];
    };
}

foreign! {
    CLEANER {
        Double "log.cleaner.io.buffer.load.factor" = "0.9".cluster_wide();
        Int "log.cleaner.io.buffer.size" = "524288".at_least(0).cluster_wide();
    }
    JVM {
        Int "kafka.metrics.polling.interval.secs" = "10".at_least(1);
        List "kafka.metrics.reporters" = "";
        Int "metrics.num.samples" = "2".at_least(1);
        String "metrics.recording.level" = "INFO";
        Long "metrics.sample.window.ms" = "30000".at_least(1);
        Class "principal.builder.class" =
        "org.apache.kafka.common.security.authenticator.DefaultKafkaPrincipalBuilder".per_broker();
        String "security.providers" = null;
    }
    LOGINS {
        Long "connections.max.reauth.ms" = "0";
        Long "delegation.token.expiry.check.interval.ms" = "3600000".at_least(1);
        Long "delegation.token.expiry.time.ms" = "86400000".at_least(1);
        Long "delegation.token.max.lifetime.ms" = "604800000".at_least(1);
        Password "delegation.token.secret.key" = null;
        Class "sasl.client.callback.handler.class" = null;
        String "sasl.kerberos.kinit.cmd" = "/usr/bin/kinit".per_broker();
        Long "sasl.kerberos.min.time.before.relogin" = "60000".per_broker();
        List "sasl.kerberos.principal.to.local.rules" = "DEFAULT".per_broker();
        String "sasl.kerberos.service.name" = null.per_broker();
        Double "sasl.kerberos.ticket.renew.jitter" = "0.05".per_broker();
        Double "sasl.kerberos.ticket.renew.window.factor" = "0.8".per_broker();
        Class "sasl.login.callback.handler.class" = null;
        Class "sasl.login.class" = null;
        Int "sasl.login.connect.timeout.ms" = null;
        Int "sasl.login.read.timeout.ms" = null;
        Short "sasl.login.refresh.buffer.seconds" = "300".per_broker();
        Short "sasl.login.refresh.min.period.seconds" = "60".per_broker();
        Double "sasl.login.refresh.window.factor" = "0.8".per_broker();
        Double "sasl.login.refresh.window.jitter" = "0.05".per_broker();
        Long "sasl.login.retry.backoff.max.ms" = "10000";
        Long "sasl.login.retry.backoff.ms" = "100";
        String "sasl.mechanism.controller.protocol" = "GSSAPI";
        String "sasl.mechanism.inter.broker.protocol" = "GSSAPI".per_broker();
        String "sasl.oauthbearer.assertion.algorithm" = "RS256";
        String "sasl.oauthbearer.assertion.claim.aud" = null;
        Int "sasl.oauthbearer.assertion.claim.exp.seconds" = "300".between(0, 86_400);
        String "sasl.oauthbearer.assertion.claim.iss" = null;
        Boolean "sasl.oauthbearer.assertion.claim.jti.include" = "false";
        Int "sasl.oauthbearer.assertion.claim.nbf.seconds" = "60".between(0, 3600);
        String "sasl.oauthbearer.assertion.claim.sub" = null;
        String "sasl.oauthbearer.assertion.file" = null;
        String "sasl.oauthbearer.assertion.private.key.file" = null;
        Password "sasl.oauthbearer.assertion.private.key.passphrase" = null;
        String "sasl.oauthbearer.assertion.template.file" = null;
        String "sasl.oauthbearer.client.credentials.client.id" = null;
        Password "sasl.oauthbearer.client.credentials.client.secret" = null;
        Int "sasl.oauthbearer.clock.skew.seconds" = "30";
        List "sasl.oauthbearer.expected.audience" = "";
        String "sasl.oauthbearer.expected.issuer" = null;
        Long "sasl.oauthbearer.jwks.endpoint.refresh.ms" = "3600000";
        Long "sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms" = "10000";
        Long "sasl.oauthbearer.jwks.endpoint.retry.backoff.ms" = "100";
        String "sasl.oauthbearer.jwks.endpoint.url" = null;
        Class "sasl.oauthbearer.jwt.retriever.class" =
        "org.apache.kafka.common.security.oauthbearer.DefaultJwtRetriever";
        Class "sasl.oauthbearer.jwt.validator.class" =
        "org.apache.kafka.common.security.oauthbearer.DefaultJwtValidator";
        String "sasl.oauthbearer.scope" = null;
        String "sasl.oauthbearer.scope.claim.name" = "scope";
        String "sasl.oauthbearer.sub.claim.name" = "sub";
        String "sasl.oauthbearer.token.endpoint.url" = null;
        Class "sasl.server.callback.handler.class" = null;
        Int "sasl.server.max.receive.size" = "524288";
    }
    NEW_GROUPS {
        Int "group.consumer.assignment.interval.ms" = "1000".at_least(0).cluster_wide();
        List "group.consumer.assignors" = "uniform,range";
        Int "group.consumer.heartbeat.interval.ms" = "5000".at_least(1);
        Int "group.consumer.max.assignment.interval.ms" = "15000".at_least(0);
        Int "group.consumer.max.heartbeat.interval.ms" = "15000".at_least(1);
        Int "group.consumer.max.session.timeout.ms" = "60000".at_least(1);
        Int "group.consumer.max.size" = "2147483647".at_least(1);
        String "group.consumer.migration.policy" = "bidirectional";
        Int "group.consumer.min.assignment.interval.ms" = "0".at_least(0);
        Int "group.consumer.min.heartbeat.interval.ms" = "5000".at_least(1);
        Int "group.consumer.min.session.timeout.ms" = "45000".at_least(1);
        Int "group.consumer.session.timeout.ms" = "45000".at_least(1);
        Int "group.coordinator.append.linger.ms" = "-1".at_least(-1);
        Int "group.coordinator.background.threads" = "2".at_least(1);
        Int "group.coordinator.cached.buffer.max.bytes" = "1048588".at_least(524_288).cluster_wide();
        Int "group.share.assignment.interval.ms" = "1000".at_least(0).cluster_wide();
        List "group.share.assignors" = "simple";
        Int "group.share.delivery.count.limit" = "5".between(2, 10);
        Int "group.share.heartbeat.interval.ms" = "5000".at_least(1);
        Int "group.share.max.assignment.interval.ms" = "15000".at_least(0);
        Int "group.share.max.delivery.count.limit" = "10".between(5, 25);
        Int "group.share.max.heartbeat.interval.ms" = "15000".at_least(1);
        Int "group.share.max.partition.max.record.locks" = "4000".between(2000, 10_000);
        Int "group.share.max.record.lock.duration.ms" = "60000".between(30_000, 3_600_000);
        Int "group.share.max.session.timeout.ms" = "60000".at_least(1);
        Int "group.share.max.share.sessions" = "2000".at_least(1);
        Int "group.share.max.size" = "200".between(1, 1000);
        Int "group.share.min.assignment.interval.ms" = "0".at_least(0);
        Int "group.share.min.delivery.count.limit" = "2".between(2, 5);
        Int "group.share.min.heartbeat.interval.ms" = "5000".at_least(1);
        Int "group.share.min.partition.max.record.locks" = "100".between(100, 2000);
        Int "group.share.min.record.lock.duration.ms" = "15000".between(1000, 30_000);
        Int "group.share.min.session.timeout.ms" = "45000".at_least(1);
        Int "group.share.partition.max.record.locks" = "2000".between(100, 10_000);
        Int "group.share.record.lock.duration.ms" = "30000".between(1000, 3_600_000);
        Int "group.share.session.timeout.ms" = "45000".at_least(1);
        Int "group.streams.assignment.interval.ms" = "1000".at_least(0).cluster_wide();
        Int "group.streams.heartbeat.interval.ms" = "5000".at_least(1);
        Int "group.streams.initial.rebalance.delay.ms" = "3000".at_least(0);
        Int "group.streams.max.assignment.interval.ms" = "15000".at_least(0);
        Int "group.streams.max.heartbeat.interval.ms" = "15000".at_least(1);
        Int "group.streams.max.session.timeout.ms" = "60000".at_least(1);
        Int "group.streams.max.size" = "2147483647".at_least(1);
        Int "group.streams.max.standby.replicas" = "2".at_least(0);
        Int "group.streams.min.assignment.interval.ms" = "0".at_least(0);
        Int "group.streams.min.heartbeat.interval.ms" = "5000".at_least(1);
        Int "group.streams.min.session.timeout.ms" = "45000".at_least(1);
        Int "group.streams.num.standby.replicas" = "0".at_least(0);
        Int "group.streams.session.timeout.ms" = "45000".at_least(1);
        Int "share.coordinator.append.linger.ms" = "-1".at_least(-1);
        Int "share.coordinator.cached.buffer.max.bytes" = "1048588".at_least(524_288).cluster_wide();
        Int "share.coordinator.load.buffer.size" = "5242880".at_least(1);
        Int "share.coordinator.snapshot.update.records.per.snapshot" = "500".between(0, 500);
        Int "share.coordinator.state.topic.compression.codec" = "0";
        Short "share.coordinator.state.topic.min.isr" = "2".at_least(1);
        Int "share.coordinator.state.topic.num.partitions" = "50".at_least(1);
        Short "share.coordinator.state.topic.replication.factor" = "3".at_least(1);
        Int "share.coordinator.state.topic.segment.bytes" = "104857600".at_least(1);
        Int "share.coordinator.threads" = "1".at_least(1);
        Int "share.coordinator.write.timeout.ms" = "5000".at_least(1);
        Int "share.fetch.purgatory.purge.interval.requests" = "1000";
    }
    ONE_DIR {
        List "cordoned.log.dirs" = "".per_broker();
    }
    BETWEEN_BROKERS {
        Int "controller.quorum.append.linger.ms" = "25".at_least(0);
        Boolean "controller.quorum.auto.join.enable" = "false";
        Int "controller.quorum.election.backoff.max.ms" = "1000".at_least(0);
        Int "controller.quorum.fetch.max.bytes" = "1048576".at_least(1);
        Int "controller.quorum.fetch.snapshot.max.bytes" = "1048576".at_least(1);
        Int "controller.quorum.fetch.timeout.ms" = "2000".at_least(0);
        Int "controller.quorum.request.timeout.ms" = "2000".at_least(0);
        Int "controller.quorum.retry.backoff.ms" = "20".at_least(0);
        Int "controller.socket.timeout.ms" = "30000";
        List "early.start.listeners" = null;
        Int "initial.broker.registration.timeout.ms" = "60000";
        Int "replica.fetch.backoff.ms" = "1000".at_least(0);
        Int "replica.fetch.min.bytes" = "1";
        Int "replica.fetch.response.max.bytes" = "10485760".at_least(0);
        Int "replica.fetch.wait.max.ms" = "500";
        Long "replica.high.watermark.checkpoint.interval.ms" = "5000";
        Int "replica.socket.receive.buffer.bytes" = "65536";
        Int "replica.socket.timeout.ms" = "30000";
        Long "socket.connection.setup.timeout.max.ms" = "30000";
        Long "socket.connection.setup.timeout.ms" = "10000";
    }
    PLAIN_VALUES {
        List "config.providers" = "".cluster_wide();
    }
    PURGED {
        Int "delete.records.purgatory.purge.interval.requests" = "1";
        Int "fetch.purgatory.purge.interval.requests" = "1000";
        Int "producer.purgatory.purge.interval.requests" = "1000";
    }
    QUORUM {
        Long "metadata.log.max.record.bytes.between.snapshots" = "20971520".at_least(1);
        Long "metadata.log.max.snapshot.interval.ms" = "3600000".at_least(0);
        Int "metadata.log.segment.bytes" = "1073741824".at_least(8_388_608);
        Long "metadata.log.segment.ms" = "604800000";
        Int "metadata.max.idle.interval.ms" = "500".at_least(0);
        Long "metadata.max.retention.bytes" = "104857600";
        Long "metadata.max.retention.ms" = "604800000";
    }
    QUOTAS {
        Int "alter.log.dirs.replication.quota.window.num" = "11".at_least(1);
        Int "alter.log.dirs.replication.quota.window.size.seconds" = "1".at_least(1);
        Class "client.quota.callback.class" = null;
        Int "controller.quota.window.num" = "11".at_least(1);
        Int "controller.quota.window.size.seconds" = "1".at_least(1);
        Int "quota.window.num" = "11".at_least(1);
        Int "quota.window.size.seconds" = "1".at_least(1);
        Int "replication.quota.window.num" = "11".at_least(1);
        Int "replication.quota.window.size.seconds" = "1".at_least(1);
    }
    TIERED {
        Boolean "follower.fetch.last.tiered.offset.enable" = "false".cluster_wide();
        Int "remote.fetch.max.wait.ms" = "500".at_least(1).cluster_wide();
        Long "remote.list.offsets.request.timeout.ms" = "30000".at_least(1).cluster_wide();
        Long "remote.log.index.file.cache.total.size.bytes" = "1073741824".at_least(1).cluster_wide();
        Int "remote.log.manager.copier.thread.pool.size" = "10".at_least(1).cluster_wide();
        Long "remote.log.manager.copy.max.bytes.per.second" = "9223372036854775807".at_least(1).cluster_wide();
        Int "remote.log.manager.copy.quota.window.num" = "11".at_least(1);
        Int "remote.log.manager.copy.quota.window.size.seconds" = "1".at_least(1);
        Int "remote.log.manager.expiration.thread.pool.size" = "10".at_least(1).cluster_wide();
        Long "remote.log.manager.fetch.max.bytes.per.second" = "9223372036854775807".at_least(1).cluster_wide();
        Int "remote.log.manager.fetch.quota.window.num" = "11".at_least(1);
        Int "remote.log.manager.fetch.quota.window.size.seconds" = "1".at_least(1);
        Int "remote.log.manager.follower.thread.pool.size" = "2".at_least(1).cluster_wide();
        Long "remote.log.manager.task.interval.ms" = "30000".at_least(1);
        Int "remote.log.manager.thread.pool.size" = "2".at_least(1);
        Int "remote.log.metadata.custom.metadata.max.bytes" = "128".at_least(0);
        String "remote.log.metadata.manager.class.name" =
        "org.apache.kafka.server.log.remote.metadata.storage.TopicBasedRemoteLogMetadataManager";
        String "remote.log.metadata.manager.class.path" = null;
        String "remote.log.metadata.manager.impl.prefix" = "rlmm.config.";
        String "remote.log.metadata.manager.listener.name" = null;
        Int "remote.log.reader.max.pending.tasks" = "100".at_least(1);
        Int "remote.log.reader.threads" = "10".at_least(1).cluster_wide();
        String "remote.log.storage.manager.class.name" = null;
        String "remote.log.storage.manager.class.path" = null;
        String "remote.log.storage.manager.impl.prefix" = "rsm.config.";
    }
    TLS {
        Boolean "ssl.allow.dn.changes" = "false";
        Boolean "ssl.allow.san.changes" = "false";
        List "ssl.cipher.suites" = "".per_broker();
        List "ssl.enabled.protocols" = "TLSv1.2,TLSv1.3".per_broker();
        String "ssl.endpoint.identification.algorithm" = "https".per_broker();
        Class "ssl.engine.factory.class" = null.per_broker();
        String "ssl.keymanager.algorithm" = "SunX509".per_broker();
        String "ssl.keystore.location" = null.per_broker();
        String "ssl.keystore.type" = "JKS".per_broker();
        String "ssl.principal.mapping.rules" = "DEFAULT";
        String "ssl.protocol" = "TLSv1.3".per_broker();
        String "ssl.provider" = null.per_broker();
        String "ssl.secure.random.implementation" = null.per_broker();
        String "ssl.trustmanager.algorithm" = "PKIX".per_broker();
        String "ssl.truststore.location" = null.per_broker();
        String "ssl.truststore.type" = "JKS".per_broker();
    }
    TRANSACTIONS {
        Int "add.partitions.to.txn.retry.backoff.max.ms" = "100".at_least(0);
        Int "add.partitions.to.txn.retry.backoff.ms" = "20".at_least(1);
        Int "transaction.abort.timed.out.transaction.cleanup.interval.ms" = "10000".at_least(1);
        Boolean "transaction.partition.verification.enable" = "true".cluster_wide();
        Int "transaction.remove.expired.transaction.cleanup.interval.ms" = "3600000".at_least(1);
        Int "transaction.state.log.load.buffer.size" = "5242880".at_least(1);
        Int "transaction.state.log.segment.bytes" = "104857600".at_least(1);
        Boolean "transaction.two.phase.commit.enable" = "false";
    }
}
