# CMD of a machine with the console as its terminal.
[ "$TERM" = vt220 ]
ok "term $TERM"
[ -t 0 ] && [ -t 2 ] && : >/dev/tty && [ "$(tty)" = /dev/ttyS0 ] && stty -a | grep -q 'isig icanon iexten echo' && [ "$(stty size)" = '24 80' ]
ok terminal
set -m
sleep 1000 &
[ "$(cut -d' ' -f5 /proc/$!/stat)" = "$!" ] && [ "$(cut -d' ' -f6 /proc/$!/stat)" = "$$" ] && [ "$(cut -d' ' -f8 /proc/self/stat)" != -1 ]
ok 'job control'
set +m
trap 'interrupted=1' INT
echo 'READY FOR CTRL-C'
sleep 60
[ "$interrupted" = 1 ]
ok interrupted
trap 'true; ok "asked to end"; exit 23' TERM
echo 'READY FOR CTRL-ALT-DEL'
while :; do sleep 1; done
