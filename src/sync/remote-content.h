// Reading files at the server: small ones whole in one round trip, large ones range by range.
#pragma once

#include <capstan/sync/remote-place.h>
#include <capstan/sync/replica.h>

namespace capstan::sync {

kj::Promise<Result<Replica::Fetched>> fetchRemote(const RemotePlace& place, std::string path, Node expected);
kj::Promise<Result<kj::Own<Content>>> openRemote(const RemotePlace& place, std::string path, Node expected);
kj::Promise<std::vector<Result<std::string>>> remoteDigests(const RemotePlace& place, std::vector<std::string> paths);

}  // namespace capstan::sync
