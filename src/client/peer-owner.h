// Whose program is at the other end of a TCP connection that does not leave this machine, as the kernel's tables of
// sockets tell. A port belongs to whoever is the first to listen there: before this user's own token goes to one, it
// is looked at who that is.
#pragma once

#include <sys/socket.h>
#include <sys/types.h>

#include <string_view>

#include <kj/async-io.h>

namespace capstan::client {

// The texts of /proc/net/tcp and tcp6.
struct TcpTables {
  std::string_view v4, v6;
};

// Whether nobody but `user` and root can get to see what is sent over a connection from `near` to `far`: who listens at
// `far`, and who has taken the connection up (until somebody has, the tables do not know). Of listeners, the kernel
// takes those of just this address before those of all. Pure; false where the tables do not tell.
bool isOfUserAlone(const TcpTables& tables, const sockaddr_storage& near, const sockaddr_storage& far, uid_t user);

// The same of a connected stream, and the user of this process. False also where the tables cannot be read, and of
// what is no TCP connection. Blocks for as long as the kernel needs to write its tables.
bool isOfThisUserAlone(kj::AsyncIoStream& stream);

}  // namespace capstan::client
