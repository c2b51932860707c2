// How this project holds OpenSSL's objects. Internal to src/rpc.
#pragma once

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509.h>

#include <memory>
#include <string_view>

namespace capstan::rpc {

template <auto FREE>
struct FreeWith {
  template <typename T>
  void operator()(T* object) const {
    FREE(object);
  }
};
using OwnBio = std::unique_ptr<BIO, FreeWith<BIO_free_all>>;
using OwnKey = std::unique_ptr<EVP_PKEY, FreeWith<EVP_PKEY_free>>;
using OwnCertificate = std::unique_ptr<X509, FreeWith<X509_free>>;

// OpenSSL collects errors for each thread, and a call on some connection later would take them for its own.
struct ErrorsForgotten {
  ErrorsForgotten() { ERR_clear_error(); }
  ~ErrorsForgotten() { ERR_clear_error(); }
  ErrorsForgotten(const ErrorsForgotten&) = delete;
  ErrorsForgotten& operator=(const ErrorsForgotten&) = delete;
};

// Reads from the text, which must outlive it.
inline OwnBio bioOf(std::string_view text) { return OwnBio(BIO_new_mem_buf(text.data(), int(text.size()))); }

}  // namespace capstan::rpc
