#include <capstan/server/listener.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <memory>

#include <capstan/base/file.h>
#include <capstan/base/text.h>

namespace capstan::server {

namespace {

constexpr int BACKLOG = 1024;

Error cannotListen(const rpc::Address& address, std::string_view reason) {
  return {ErrorCode::INVALID_ARGUMENT,
          "cannot listen on " + escapeForTerminal(address.toString()) + ": " + std::string(reason),
          {}};
}

Error cannotListen(const rpc::Address& address, int number) {
  switch (number) {
    case EADDRINUSE:
      return {ErrorCode::IO,
              "cannot listen on " + escapeForTerminal(address.toString()) +
                  ": the address is in use, maybe by another server; choose another with --listen",
              {}};
    case EADDRNOTAVAIL: return cannotListen(address, "this machine does not have that address");
    case EACCES:
    case EPERM:
      return {
          ErrorCode::DENIED, "cannot listen on " + escapeForTerminal(address.toString()) + ": this user may not", {}};
    default: return cannotListen(address, strerror(number));
  }
}

rpc::Address addressOf(const sockaddr* raw, socklen_t size) {
  rpc::Address result;
  char host[NI_MAXHOST], service[NI_MAXSERV];
  if (getnameinfo(raw, size, host, sizeof(host), service, sizeof(service), NI_NUMERICHOST | NI_NUMERICSERV) == 0) {
    result.host = host;
    result.port = uint16_t(atoi(service));
  }
  return result;
}

// `numeric` is what `wanted` stands for.
Status checkReach(const rpc::Address& wanted, const rpc::Address& numeric, bool reachable) {
  if (numeric.isLoopback() || reachable) return okStatus();
  return cannotListen(wanted,
                      "other machines could reach it, and there is no TLS: whoever can read the network would see "
                      "tokens and files. Say --insecure if the network is trusted");
}

Result<Listener> bindTcp(const rpc::Address& wanted, const addrinfo& info, bool reachable) {
  auto allowed = checkReach(wanted, addressOf(info.ai_addr, info.ai_addrlen), reachable);
  if (!allowed.ok()) return allowed.error();
  kj::AutoCloseFd fd(socket(info.ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (fd.get() < 0) return cannotListen(wanted, errno);
  int one = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
  if (info.ai_family == AF_INET6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
  if (bind(fd, info.ai_addr, info.ai_addrlen) < 0 || listen(fd, BACKLOG) < 0) return cannotListen(wanted, errno);
  sockaddr_storage bound;
  socklen_t size = sizeof(bound);
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&bound), &size) < 0) return cannotListen(wanted, errno);
  return Listener(kj::mv(fd), addressOf(reinterpret_cast<sockaddr*>(&bound), size));
}

Result<std::vector<Listener>> listenOnTcp(const rpc::Address& address, bool reachable) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_ADDRCONFIG;
  addrinfo* found = nullptr;
  int problem = getaddrinfo(address.host.c_str(), std::to_string(address.port).c_str(), &hints, &found);
  if (problem != 0) {
    // AI_ADDRCONFIG hides ::1 on machines that have no other IPv6 address.
    hints.ai_flags = AI_PASSIVE;
    problem = getaddrinfo(address.host.c_str(), std::to_string(address.port).c_str(), &hints, &found);
  }
  if (problem != 0) return cannotListen(address, gai_strerror(problem));
  std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owner(found, freeaddrinfo);

  std::vector<Listener> listeners;
  for (const addrinfo* info = found; info != nullptr; info = info->ai_next) {
    auto listener = bindTcp(address, *info, reachable);
    if (!listener.ok()) return listener.error();
    listeners.push_back(std::move(*listener));
    if (address.port == 0) break;
  }
  return listeners;
}

// Only a refusal proves that nobody has the socket any more: a full backlog, missing permission, a socket of another
// type (systemd's, say) or no descriptor left for the question prove nothing.
bool isLeftOver(const sockaddr_un& address, socklen_t size) {
  kj::AutoCloseFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (fd.get() < 0) return false;
  return connect(fd, reinterpret_cast<const sockaddr*>(&address), size) < 0 && errno == ECONNREFUSED;
}

// Held from looking at the file to listening: of two servers that start at once, both would find a left over socket,
// and the second would take away the first one's. Whoever keeps the lock for ever (in /tmp, anybody can) is not waited
// for. Locks the folder, so that nothing is left behind.
kj::AutoCloseFd lockFolderOf(const std::string& path) {
  constexpr unsigned TRIES = 200;
  constexpr useconds_t PAUSE = 5'000;  // microseconds
  size_t slash = path.rfind('/');
  std::string folder = slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
  kj::AutoCloseFd fd(open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  for (unsigned i = 0; fd.get() >= 0 && i < TRIES && flock(fd, LOCK_EX | LOCK_NB) < 0; ++i) {
    if (errno != EWOULDBLOCK && errno != EINTR) break;
    usleep(PAUSE);
  }
  return fd;
}

Result<std::vector<Listener>> listenOnUnix(const rpc::Address& address) {
  sockaddr_un raw{};
  raw.sun_family = AF_UNIX;
  if (address.path.empty() || address.path.size() >= sizeof(raw.sun_path)) {
    return cannotListen(address, "the path of a Unix socket has 1 to 107 bytes");
  }
  memcpy(raw.sun_path, address.path.data(), address.path.size());
  socklen_t size = sizeof(raw);

  std::string folder = address.path.substr(0, std::max<size_t>(address.path.rfind('/') + 1, 1) - 1);
  if (folder == "/tmp/capstan-" + std::to_string(getuid())) {
    auto own = ensureOwnFolder(folder);
    if (!own.ok()) return own.error();
  }
  auto lock = lockFolderOf(address.path);
  struct stat status;
  if (lstat(address.path.c_str(), &status) == 0) {
    if (!S_ISSOCK(status.st_mode)) return cannotListen(address, "there is a file of that name that is no socket");
    if (!isLeftOver(raw, size)) return cannotListen(address, EADDRINUSE);
    unlink(address.path.c_str());
  }
  kj::AutoCloseFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (fd.get() < 0) return cannotListen(address, errno);
  // Linux gives the file the mode of the socket: it is not open to others even for a moment, and other threads are not
  // disturbed by a changed umask.
  if (fchmod(fd, 0600) < 0) return cannotListen(address, errno);
  if (bind(fd, reinterpret_cast<sockaddr*>(&raw), size) < 0) return cannotListen(address, errno);
  if (listen(fd, BACKLOG) < 0) return cannotListen(address, errno);
  std::vector<Listener> listeners;
  listeners.emplace_back(kj::mv(fd), address);
  return listeners;
}

}  // namespace

Listener::Listener(kj::AutoCloseFd fd, rpc::Address address, FileIs file) : fd(kj::mv(fd)), bound(std::move(address)) {
  struct stat status;
  if (file == FileIs::OURS && bound.kind == rpc::Address::Kind::UNIX && lstat(bound.path.c_str(), &status) == 0) {
    device = status.st_dev;
    inode = status.st_ino;
  }
}

Listener::~Listener() {
  if (fd.get() < 0 || inode == 0) return;
  struct stat status;
  if (lstat(bound.path.c_str(), &status) == 0 && status.st_dev == device && status.st_ino == inode) {
    unlink(bound.path.c_str());
  }
}

Status ensureOwnFolder(const std::string& folder) {
  if (mkdir(folder.c_str(), 0700) < 0 && errno != EEXIST) return errorFromErrno(errno, "cannot make", folder);
  struct stat status;
  if (lstat(folder.c_str(), &status) < 0) return errorFromErrno(errno, "cannot use", folder);
  if (!S_ISDIR(status.st_mode) || status.st_uid != geteuid() || (status.st_mode & 077) != 0) {
    return errorAt(ErrorCode::DENIED, folder, "",
                   " is not a folder of this user's that only this user may enter; "
                   "remove it, or choose a socket with --listen unix:PATH");
  }
  return okStatus();
}

Result<std::vector<Listener>> listenOn(const rpc::Address& address, bool reachable) {
  return address.kind == rpc::Address::Kind::UNIX ? listenOnUnix(address) : listenOnTcp(address, reachable);
}

namespace {

int optionOf(int fd, int option) {
  int value = -1;
  socklen_t size = sizeof(value);
  return getsockopt(fd, SOL_SOCKET, option, &value, &size) == 0 ? value : -1;
}

// An abstract name, which is no path, is shown with an '@' for its NUL.
rpc::Address unixAddressOf(const sockaddr_un& raw, socklen_t size) {
  rpc::Address address{.kind = rpc::Address::Kind::UNIX, .host = {}, .port = 0, .path = {}};
  size_t length = size > offsetof(sockaddr_un, sun_path) ? size - offsetof(sockaddr_un, sun_path) : 0;
  bool isAbstract = length > 0 && raw.sun_path[0] == '\0';
  address.path = isAbstract ? "@" + std::string(raw.sun_path + 1, length - 1)
                            : std::string(raw.sun_path, strnlen(raw.sun_path, length));
  return address;
}

}  // namespace

Result<Listener> inherit(kj::AutoCloseFd fd, const std::string& name, bool reachable) {
  auto refuse = [&](std::string_view reason) {
    return Error{ErrorCode::INVALID_ARGUMENT,
                 "cannot listen on " + escapeForTerminal(name) + ", which was handed over: " + std::string(reason),
                 {}};
  };
  sockaddr_storage raw{};
  socklen_t size = sizeof(raw);
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&raw), &size) < 0)
    return refuse(errno == EBADF ? "there is no such descriptor" : "it is no socket");
  bool isUnix = raw.ss_family == AF_UNIX;
  if (!isUnix && raw.ss_family != AF_INET && raw.ss_family != AF_INET6)
    return refuse("it is neither a Unix nor a TCP socket");
  if (optionOf(fd, SO_TYPE) != SOCK_STREAM) return refuse("it is no stream socket (write ListenStream=)");
  if (optionOf(fd, SO_ACCEPTCONN) != 1)
    return refuse("it is not listening; one that is one connection already comes from Accept=yes, which has to be no");
  rpc::Address address = isUnix ? unixAddressOf(reinterpret_cast<sockaddr_un&>(raw), size)
                                : addressOf(reinterpret_cast<sockaddr*>(&raw), size);
  auto allowed = checkReach(address, address, reachable);
  if (!allowed.ok()) return allowed.error();
  if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
    return refuse(strerror(errno));
  return Listener(kj::mv(fd), std::move(address), Listener::FileIs::OF_OTHERS);
}

PeerIdentity identifyPeer(int fd) {
  PeerIdentity peer;
  sockaddr_storage raw{};
  socklen_t size = sizeof(raw);
  if (getpeername(fd, reinterpret_cast<sockaddr*>(&raw), &size) < 0) {
    peer.name = "somebody who has left";
    return peer;
  }
  if (raw.ss_family != AF_UNIX) {
    peer.name = addressOf(reinterpret_cast<sockaddr*>(&raw), size).toString();
    // A listener on all addresses has loopback among them: what came that way did not cross a network.
    size = sizeof(raw);
    peer.isLocal = getsockname(fd, reinterpret_cast<sockaddr*>(&raw), &size) == 0 &&
                   addressOf(reinterpret_cast<sockaddr*>(&raw), size).isLoopback();
    return peer;
  }
  peer.isUnix = true;
  ucred credentials{};
  size = sizeof(credentials);
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size) == 0) {
    peer.sameUser = credentials.uid == geteuid() || credentials.uid == 0;
    peer.name = "user " + std::to_string(credentials.uid) + ", process " + std::to_string(credentials.pid);
  }
  return peer;
}

}  // namespace capstan::server
