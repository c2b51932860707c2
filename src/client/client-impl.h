// What the Client's methods share, which are in several files. Internal to src/client.
#pragma once

#include <capstan/client/client.h>
#include <capstan/client/links.h>

namespace capstan::client {

struct Client::Impl {
  Links links;

  Impl(kj::Network& network, kj::Timer& timer, Options options) : links(network, timer, std::move(options)) {}
};

}  // namespace capstan::client
