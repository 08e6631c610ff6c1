# CMD of a machine with services, which all tell /run/order what they do.
order() { grep -n "^$1\$" /run/order | cut -d: -f1 | head -n 1; }
[ "$(order 'slow is ready')" -lt "$(order 'after-slow starts')" ] && [ "$(order 'told is ready')" -lt "$(order 'after-told starts')" ]
ok 'who comes after one starts when that is ready, by a descriptor or by a message'
[ "$(order 'once is done')" -lt "$(order 'after-once starts')" ]
ok 'who comes after one that ends starts when it has ended'
[ "$(grep -c '^fails starts' /run/order)" = 3 ] && [ "$(grep -c '^gives-up starts' /run/order)" = 1 ]
ok 'who fails is started again where that is said'
[ "$(cat /run/user)" = '33:44:44 7' ] && grep -q '^X=a b$' /run/environment && ! grep -q '^NOT=' /run/environment
ok 'a service has its own user and environment'
until [ -s /run/logs/talks.1 ] && [ -s /run/logs/talks ] && grep -q '^last line$' /run/logs/talks; do sleep 0.1; done
[ "$(stat -c %s /run/logs/talks.1)" -ge 4096 ] && [ "$(stat -c %s /run/logs/talks.1)" -lt 9000 ]
ok 'what a service writes goes to a file that is put aside'
[ -z "$(order 'circle-a starts')" ] && [ -n "$(order 'circle-b starts')" ]
ok 'of those that wait for each other the first is left out, and keeps nobody'
exit 5
