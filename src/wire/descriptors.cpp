#include "wire/descriptors.h"

#include <sys/socket.h>

#include <cerrno>
#include <cstring>

namespace mesh {
namespace {

/// A number, and room for one descriptor beside it.
struct Message {
  explicit Message(std::int64_t of = 0) : number(of) {
    head.msg_iov = &bytes;
    head.msg_iovlen = 1;
    head.msg_control = control;
    head.msg_controllen = sizeof control;
  }
  Message(const Message&) = delete;
  Message& operator=(const Message&) = delete;

  std::int64_t number;
  iovec bytes{&number, sizeof number};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))]{};
  msghdr head{};
};

}  // namespace

bool send_descriptor(int socket, std::int64_t number, int fd) {
  Message message(number);
  auto* head = CMSG_FIRSTHDR(&message.head);
  head->cmsg_level = SOL_SOCKET;
  head->cmsg_type = SCM_RIGHTS;
  head->cmsg_len = CMSG_LEN(sizeof fd);
  std::memcpy(CMSG_DATA(head), &fd, sizeof fd);
  return ::sendmsg(socket, &message.head, MSG_DONTWAIT | MSG_NOSIGNAL) == sizeof number;
}

bool receive_descriptors(int socket, std::map<std::int64_t, Fd>& arrived) {
  for (;;) {
    Message message;
    const auto size = ::recvmsg(socket, &message.head, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return errno == EAGAIN;
    Fd fd;
    for (auto* head = CMSG_FIRSTHDR(&message.head); head != nullptr; head = CMSG_NXTHDR(&message.head, head)) {
      if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS || head->cmsg_len != CMSG_LEN(sizeof(int)))
        continue;
      int raw = -1;
      std::memcpy(&raw, CMSG_DATA(head), sizeof raw);
      fd = Fd(raw);
    }
    if (size != sizeof message.number) return false;
    if (!fd) continue;  // this process has no room for another one
    arrived.insert_or_assign(message.number, std::move(fd));
  }
}

}  // namespace mesh
