#include "wire/descriptors.h"

#include <sys/socket.h>

#include <cerrno>
#include <cstring>

namespace mesh {
namespace {

/// Room for one descriptor beside a message.
union Control {
  cmsghdr head;
  char bytes[CMSG_SPACE(sizeof(int))];
};

}  // namespace

bool send_descriptor(int socket, std::int64_t number, int fd) {
  iovec bytes{&number, sizeof number};
  Control control{};
  msghdr message{};
  message.msg_iov = &bytes;
  message.msg_iovlen = 1;
  message.msg_control = control.bytes;
  message.msg_controllen = sizeof control.bytes;
  auto* head = CMSG_FIRSTHDR(&message);
  head->cmsg_level = SOL_SOCKET;
  head->cmsg_type = SCM_RIGHTS;
  head->cmsg_len = CMSG_LEN(sizeof fd);
  std::memcpy(CMSG_DATA(head), &fd, sizeof fd);
  return ::sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL) == sizeof number;
}

bool receive_descriptors(int socket, std::map<std::int64_t, Fd>& arrived) {
  for (;;) {
    std::int64_t number = 0;
    iovec bytes{&number, sizeof number};
    Control control{};
    msghdr message{};
    message.msg_iov = &bytes;
    message.msg_iovlen = 1;
    message.msg_control = control.bytes;
    message.msg_controllen = sizeof control.bytes;
    const auto size = ::recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return errno == EAGAIN;
    Fd fd;
    for (auto* head = CMSG_FIRSTHDR(&message); head != nullptr; head = CMSG_NXTHDR(&message, head)) {
      if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS || head->cmsg_len != CMSG_LEN(sizeof(int)))
        continue;
      int raw = -1;
      std::memcpy(&raw, CMSG_DATA(head), sizeof raw);
      fd = Fd(raw);
    }
    if (size != sizeof number) return false;
    if (!fd) continue;  // this process has no room for another one
    arrived.insert_or_assign(number, std::move(fd));
  }
}

}  // namespace mesh
