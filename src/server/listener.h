// Listening sockets: binding what an address means, with the rules for who may listen where. Plain system calls; the
// acceptor waits on the descriptors.
#pragma once

#include <sys/types.h>

#include <vector>

#include <kj/io.h>

#include <capstan/base/error.h>
#include <capstan/rpc/address.h>

namespace capstan::server {

// One bound, listening, non-blocking socket. Destroying it closes it, and removes a Unix socket's file if that is still
// the one that was bound.
class Listener {
 public:
  enum class FileIs { OURS, OF_OTHERS };  // what is others' is never removed
  Listener(kj::AutoCloseFd fd, rpc::Address address, FileIs file = FileIs::OURS);
  ~Listener();
  Listener(Listener&& other) noexcept = default;

  int get() const { return fd.get(); }
  // With the real port, numeric.
  const rpc::Address& address() const { return bound; }

 private:
  kj::AutoCloseFd fd;
  rpc::Address bound;
  dev_t device = 0;  // of a Unix socket's file
  ino_t inode = 0;
};

// A host name may stand for several addresses: each is bound (only the first if the port is 0). Errors: an address in
// use, one that is not this machine's, a Unix socket that another server answers on, and, unless `reachable`, TCP
// addresses that are not loopback: it says that there is TLS, or that the user wants to do without. The file of a Unix
// socket nobody answers on is replaced; its mode is 0600. The folder of the default socket is made, and has to belong
// to this user.
Result<std::vector<Listener>> listenOn(const rpc::Address& address, bool reachable);

// Takes over a socket that another program has bound, a service manager say, under the same rules. Its file, if it has
// one, stays. Errors: it is no socket, none that listens for streams, not of this machine's kind, or not allowed.
// `name` is for sentences: "socket 3 (capstan.socket)". The descriptor is closed in any case.
Result<Listener> inherit(kj::AutoCloseFd fd, const std::string& name, bool reachable);

// Makes a folder that only this user may enter, or checks that it is one: for the default socket where there is no
// runtime folder, in /tmp, where others may have made it first. `denied` if it is somebody else's, a symlink, or open.
Status ensureOwnFolder(const std::string& folder);

// Who is at the other end of an accepted socket.
struct PeerIdentity {
  std::string name;  // for the log: "127.0.0.1:50123", or "uid 1000, process 4711"
  bool isUnix = false;
  bool isLocal = false;   // TCP: it came over loopback, whatever address the listener has
  bool sameUser = false;  // a Unix socket's peer of this user, or root
};
PeerIdentity identifyPeer(int fd);

}  // namespace capstan::server
