/* What a machine cannot do without before its command runs, and nothing else: the mounts of our init, every controller for the
 * groups below the root's, loopback, and a fork. What init takes beyond this is its own. */
#include <fcntl.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static void at(const char *kind, const char *place, const char *data)
{
	mkdir(place, 0755);
	mount(kind, place, kind, 0, data);
}

int main(void)
{
	char names[256] = "", all[512] = "";
	struct ifreq loopback = {.ifr_name = "lo"};

	at("proc", "/proc", NULL);
	at("sysfs", "/sys", NULL);
	at("devtmpfs", "/dev", "mode=755");
	at("tmpfs", "/run", "mode=755");
	at("devpts", "/dev/pts", "gid=5,mode=620,ptmxmode=666");
	at("tmpfs", "/dev/shm", "mode=1777");
	at("mqueue", "/dev/mqueue", NULL);
	at("cgroup2", "/sys/fs/cgroup", "nsdelegate");
	int file = open("/sys/fs/cgroup/cgroup.controllers", O_RDONLY);
	read(file, names, sizeof names - 1);
	close(file);
	for (char *name = strtok(names, " \n"); name; name = strtok(NULL, " \n"))
		strcat(strcat(strcat(all, "+"), name), " ");
	file = open("/sys/fs/cgroup/cgroup.subtree_control", O_WRONLY);
	write(file, all, strlen(all));
	close(file);
	int network = socket(AF_INET, SOCK_DGRAM, 0);
	ioctl(network, SIOCGIFFLAGS, &loopback);
	loopback.ifr_flags |= IFF_UP;
	ioctl(network, SIOCSIFFLAGS, &loopback);
	close(network);
	if (fork() == 0) {
		execl("/up", "/up", NULL);
		_exit(127);
	}
	wait(NULL);
	reboot(RB_POWER_OFF);
}
