"""Never executed: mypy and pyright read it, and fail where the public types are not what users need."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import redis
    import redis.asyncio as aredis
    from typing_extensions import assert_type

    import tenantkv

    def sync() -> None:
        kv = tenantkv.connect("embedded://", decode_responses=True, registry=True)
        assert_type(kv, tenantkv.TenantRedis)
        plain: redis.Redis = kv
        assert_type(kv.namespace, tenantkv.Namespace)
        assert_type(kv.child("customer-17"), tenantkv.TenantRedis)
        assert_type(kv.namespace_usage(sample=10), tenantkv.Usage)
        assert_type(kv.namespace_usage().keys, int)
        pool = tenantkv.connection_pool("embedded://", max_connections=4)
        assert_type(pool, tenantkv.NamespacedConnectionPool)
        redis.Redis(connection_pool=pool)
        cluster = tenantkv.connect_cluster("redis+cluster://a:7000")
        assert_type(cluster, tenantkv.TenantRedisCluster)
        del plain

    async def asynchronous() -> None:
        akv = tenantkv.asyncio.connect("embedded://")
        assert_type(akv, tenantkv.AsyncTenantRedis)
        plain: aredis.Redis = akv
        assert_type(akv.child("customer-17"), tenantkv.AsyncTenantRedis)
        assert_type(await akv.namespace_usage(), tenantkv.Usage)
        assert_type(tenantkv.asyncio.connection_pool(), tenantkv.AsyncNamespacedConnectionPool)
        del plain

    def errors() -> None:
        try:
            tenantkv.connect().flushall()
        except tenantkv.RefusedError as error:
            assert_type(error.command, str)
            assert_type(error.reason, str)
            assert_type(error.instead, str)
