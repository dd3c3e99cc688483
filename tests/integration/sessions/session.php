<?php
// A session of phpredis, or of predis, through the proxy; prints what it got as JSON.
// Arguments: the proxy's socket, and predis's autoloader if that is the library.
[, $socket] = $argv;
$predis = $argv[2] ?? null;
if ($predis) {
    require $predis;
    Predis\Autoloader::register();
    $kv = new Predis\Client(['scheme' => 'unix', 'path' => $socket, 'read_write_timeout' => 30]);
} else {
    $kv = new Redis();
    $kv->connect($socket, 0, 30);
    $kv->setOption(Redis::OPT_SCAN, Redis::SCAN_RETRY);
}
$got = [];
$kv->set('greeting', 'hello');
$kv->setex('short', 100, "\x00\r\n\xff");
$got['get'] = [$kv->get('greeting'), bin2hex($kv->get('short')), $kv->ttl('short') > 90, $kv->get('nothing')];
$kv->hmset('h', ['f' => 'v', 'g' => 'w']);
$got['hash'] = $kv->hgetall('h');
$kv->rpush('l', ...($predis ? [['one', 'two']] : ['one', 'two']));
$got['list'] = [$kv->lrange('l', 0, -1), $kv->blpop(['nothing', 'l'], 5)];
$got['counter'] = [$kv->incr('n'), $kv->incrby('n', 41)];
$script = "return {KEYS[1], redis.call('GET', KEYS[1]), ARGV[1]}";
$names = [];
if ($predis) {
    $pipe = $kv->pipeline();
    $pipe->incr('n');
    $pipe->get('greeting');
    $got['pipeline'] = $pipe->execute();
    $got['multi'] = $kv->transaction(['watch' => 'n'])->incr('n')->get('greeting')->execute();
    foreach (new Predis\Collection\Iterator\Keyspace($kv, 'g*') as $name) {
        $names[] = $name;
    }
} else {
    $got['pipeline'] = $kv->pipeline()->incr('n')->get('greeting')->exec();
    $kv->watch('n');
    $got['multi'] = $kv->multi()->incr('n')->get('greeting')->exec();
    $cursor = null;
    while ($found = $kv->scan($cursor, 'g*')) {
        array_push($names, ...$found);
    }
}
$got['scan'] = $names;
try {
    $got['eval'] = $predis ? $kv->eval($script, 1, 'greeting', 'x') : $kv->eval($script, ['greeting', 'x'], 1);
} catch (Exception $caught) {
    $got['eval'] = $caught->getMessage();
}
if ($got['eval'] === false) {
    $got['eval'] = $kv->getLastError();
}
foreach (['flushall' => [], 'flushdb' => [], 'move' => ['greeting', 1]] as $name => $words) {
    try {
        $kv->$name(...$words);
        $said = $predis ? '' : (string) $kv->getLastError();
    } catch (Exception $caught) {
        $said = $caught->getMessage();
    }
    $got['refused'][] = str_contains($said, 'refused');
}
// Somebody publishes now and then.
if ($predis) {
    $loop = $kv->pubSubLoop();
    $loop->subscribe('news');
    foreach ($loop as $message) {
        if ($message->kind === 'message') {
            $got['heard'] = [$message->channel, $message->payload];
            $loop->stop();
        }
    }
} else {
    // phpredis has no other way out of it than silence.
    $kv->setOption(Redis::OPT_READ_TIMEOUT, 0.5);
    while (!isset($got['heard'])) {
        try {
            $kv->subscribe(['news'], function ($kv, $channel, $message) use (&$got) {
                $got['heard'] = [$channel, $message];
            });
        } catch (RedisException $silence) {
        }
    }
}
echo json_encode($got);
