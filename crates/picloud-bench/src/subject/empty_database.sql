drop database if exists :"name";
create database :"name";
