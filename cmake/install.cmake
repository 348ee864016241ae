# libfastmnist for C and C++ programs: library, headers, what find_package and pkg-config ask for.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set_target_properties(libfastmnist PROPERTIES
  EXPORT_NAME fastmnist
  VERSION ${FASTMNIST_VERSION_NUMBER}
  SOVERSION 0)
target_include_directories(libfastmnist PUBLIC $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
add_library(fastmnist::fastmnist ALIAS libfastmnist)  # for who adds this folder to a project

install(TARGETS libfastmnist EXPORT fastmnistTargets
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(FILES include/fastmnist/fastmnist.h include/fastmnist/model.hpp
  DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/fastmnist)

set(config ${CMAKE_INSTALL_LIBDIR}/cmake/fastmnist)
install(EXPORT fastmnistTargets NAMESPACE fastmnist:: DESTINATION ${config})
configure_package_config_file(cmake/fastmnistConfig.cmake.in
  ${CMAKE_CURRENT_BINARY_DIR}/fastmnistConfig.cmake INSTALL_DESTINATION ${config})
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/fastmnistConfigVersion.cmake
  VERSION ${FASTMNIST_VERSION_NUMBER} COMPATIBILITY SameMinorVersion)
install(FILES
  ${CMAKE_CURRENT_BINARY_DIR}/fastmnistConfig.cmake
  ${CMAKE_CURRENT_BINARY_DIR}/fastmnistConfigVersion.cmake
  DESTINATION ${config})

# From where fastmnist.pc lies, so that it can be installed anywhere.
file(RELATIVE_PATH FASTMNIST_PC_PREFIX
  ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_PREFIX})
# A static library leaves it to the program to link what it needs itself.
set(FASTMNIST_PC_CFLAGS "")
set(FASTMNIST_PC_LIBS "-lfastmnist")
if(FASTMNIST_STATIC)
  set(FASTMNIST_PC_CFLAGS " -DFASTMNIST_STATIC")
  string(APPEND FASTMNIST_PC_LIBS " -lstdc++ -lm")
  if(FASTMNIST_THREADS)
    string(APPEND FASTMNIST_PC_LIBS " -pthread")
  endif()
endif()
configure_file(cmake/fastmnist.pc.in ${CMAKE_CURRENT_BINARY_DIR}/fastmnist.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/fastmnist.pc
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
