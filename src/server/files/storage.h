// What is served is kept by src/storage, whose names are used here as if they were of this namespace.
#pragma once

namespace capstan::storage {}

namespace capstan::server::files {
using namespace capstan::storage;
}
